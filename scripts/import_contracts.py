# ruff: noqa: INP001 - scripts are not a package
"""A contract type for import-linter: modules that may import an allow list of this project's modules and nothing else.

setup.cfg names it as ``allow_list``. The built-in types only know what is forbidden, so that a new package of the core would be
open to every plugin until it is forbidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from importlinter import Contract, ContractCheck, fields, output

if TYPE_CHECKING:
    from grimp import ImportGraph


class AllowListContract(Contract):
    """The importers may import each other, the allowed packages, and whatever is not of this project.

    * ``importers``: the packages that the contract is about, with everything in them.
    * ``except_importers``: packages inside the importers that have a contract of their own; the importers may not import
      them.
    * ``allowed``: the packages they may import, with everything in them.
    * ``project``: the packages of this project; imports of others (the standard library, dependencies) are free.
    """

    type_name = "allow_list"

    importers = fields.ListField(subfield=fields.StringField())
    except_importers = fields.ListField(subfield=fields.StringField(), required=False, default=[])
    allowed = fields.ListField(subfield=fields.StringField())
    project = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 - import-linter's signature
        """Return all imports that are not allowed."""
        violations = []
        for package in self.importers:  # type: ignore[attr-defined]  # fields become their values
            if package not in graph.modules:
                raise ValueError(f"importers: there is no module {package}")
            for importer in sorted({package, *graph.find_descendants(package)}):
                if _is_in(importer, self.except_importers):  # type: ignore[arg-type]
                    continue
                for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                    if not self._is_allowed(imported, package):
                        details = graph.get_import_details(importer=importer, imported=imported)
                        line = details[0]["line_number"] if details else 0
                        violations.append((importer, imported, line))
        return ContractCheck(kept=not violations, metadata={"violations": violations})

    def _is_allowed(self, imported: str, package: str) -> bool:
        if not _is_in(imported, self.project):  # type: ignore[arg-type]
            return True
        if _is_in(imported, self.except_importers):  # type: ignore[arg-type]
            return False
        return _is_in(imported, [package, *self.allowed])  # type: ignore[misc]

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each import that is not allowed."""
        for importer, imported, line in check.metadata["violations"]:
            output.print_error(f"{importer} imports {imported} (l. {line}), which is not on its allow list")


def _is_in(module: str, packages: list[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
