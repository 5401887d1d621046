"""Forms of vendor tokens, as data: add a row for a new vendor.

Each row has the kind that placeholders show, texts of which at least one must occur before the pattern is tried, and the
pattern; its first group is the secret. A pattern begins with literal text and has no look-behind at its start.
"""

from __future__ import annotations

VENDOR_TOKENS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("aws-key", ("AKIA", "ASIA", "ABIA", "ACCA"), r"((?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})(?![A-Za-z0-9])"),
    ("github-token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"(gh[pousr]_[A-Za-z0-9]{30,255}+)"),
    ("github-token", ("github_pat_",), r"(github_pat_[A-Za-z0-9_]{22,255}+)"),
    (
        "gitlab-token",
        (
            "glpat-",
            "gldt-",
            "glrt-",
            "glcbt-",
            "glptt-",
            "glft-",
            "glimt-",
            "glagent-",
            "glsoat-",
            "gloas-",
            "glffct-",
        ),
        r"(gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas|ffct)-[\w.-]{18,255}+)",
    ),
    ("slack-token", ("xox", "xapp-"), r"((?:xox[abceoprs]|xapp)-[\w-]{10,255}+)"),
    (
        "webhook-address",
        ("hooks.slack.com", "webhook", "/webhooks/"),
        (
            r"(?:hooks\.slack\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/webhooks|webhook\.office\.com/webhookb2)"
            r"/([\w/@.-]{20,255}+)"
        ),
    ),
    (
        "stripe-key",
        ("k_live_", "k_test_", "whsec_"),
        r"((?:[rs]k_(?:live|test)|whsec)_[A-Za-z0-9+/=]{16,255}+)",
    ),
    ("google-key", ("AIza",), r"(AIza[\w-]{35})"),
    (
        "google-key",
        ("GOCSPX-", "ya29.", "1//0"),
        r"(GOCSPX-[\w-]{20,40}+|ya29\.[\w.-]{20,512}+|1//0[\w-]{30,120}+)",
    ),
    ("twilio-key", ("SK",), r"(SK[0-9a-f]{32})(?![0-9a-zA-Z])"),
    ("sendgrid-key", ("SG.",), r"(SG\.[\w-]{16,32}\.[\w-]{16,64}+)"),
    (
        "mail-key",
        ("key-", "-us", "xkeysib-"),
        r"(key-[0-9a-f]{32}|[0-9a-f]{32}-us\d{1,2}|xkeysib-[0-9a-f]{64}-\w{16})(?!\w)",
    ),
    ("npm-token", ("npm_",), r"(npm_[A-Za-z0-9]{36})"),
    ("pypi-token", ("pypi-",), r"(pypi-[\w-]{32,1024}+)"),
    ("azure-key", ("Q~",), r"([\w~.-]{3}\dQ~[\w~.-]{31,34})"),
    ("openai-key", ("sk-",), r"(sk-(?=[\w-]{0,200}?\d)(?=[\w-]{0,200}?[A-Z])[\w-]{20,255}+)"),
    ("telegram-token", (":AA",), r"(\d{8,10}:AA[\w-]{33})"),
    ("vault-token", ("hvs.", "hvb.", "hvr."), r"(hv[sbr]\.[\w-]{20,512}+)"),
    (
        "vendor-token",
        (
            "dop_v1_",
            "doo_v1_",
            "dor_v1_",
            "shpat_",
            "shpca_",
            "shppa_",
            "shpss_",
            "sq0",
            "hf_",
            "dckr_",
            "dapi",
            "lin_api_",
            "ntn_",
            "PMAK-",
            "NRAK-",
            "glsa_",
            "glc_",
            "sntry",
        ),
        (
            r"(do[opr]_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|sq0(?:atp|csp|idp)-[\w-]{22,64}+|hf_[A-Za-z0-9]{34}"
            r"|dckr_[op]at_[\w-]{24,64}+|dapi[0-9a-f]{32}|lin_api_\w{40}|ntn_\w{40,60}+|PMAK-[\w-]{59}|NRAK-[A-Z0-9]{27}"
            r"|glsa_\w{32}_[0-9a-fA-F]{8}|glc_[\w+/=]{32,400}+|sntry[su]_[\w+/=.-]{32,400}+)"
        ),
    ),
    (
        "vendor-token",
        (
            "ATATT",
            "AGE-SECRET",
            "pscale_",
            "figd_",
            "sbp_",
            "rubygems_",
            "dp.",
            "gsk_",
            "xai-",
            "AKCp",
            "HRKU-",
            "EAA",
        ),
        (
            r"(ATATT3[\w=-]{60,400}+|AGE-SECRET-KEY-1[0-9A-Z]{58}|pscale_(?:tkn|pw|oauth)_[\w.-]{32,64}+|figd_[\w-]{40,64}+"
            r"|sbp_[0-9a-f]{40}|rubygems_[0-9a-f]{48}|dp\.(?:pt|st|ct)\.[\w.-]{40,80}+|gsk_\w{48,64}+|xai-\w{70,100}+"
            r"|AKCp[A-Za-z0-9]{60,80}+|HRKU-[\w-]{36,80}+|EAA[A-Z][A-Za-z0-9]{60,300}+)"
        ),
    ),
    ("jwt", ("eyJ",), r"(eyJ(?<![\w-]eyJ)[\w-]{8,8192}+\.[\w-]{8,16384}+(?:\.[\w-]{0,16384}+){1,3})"),
    (
        "private-key",
        ("PRIVATE KEY",),
        (
            r"(-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?>(?:[^-]|-(?!----)){0,16384})"
            r"(?:-----END [A-Z0-9 ]{1,60}-----)?)"
        ),
    ),
)
