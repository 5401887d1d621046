"""A shop with two faults, watched by sentry-sdk. Run by the Python of Bugsink's venv: shop.py DSN RELEASE FAULT."""

import sys

import sentry_sdk

DISCOUNTS_PERCENT = {"SPRING": 10, "FRIEND": 15}


def average_price_cents(basket):
    """Return the average price of the items of a basket."""
    return sum(basket["prices_cents"]) / len(basket["prices_cents"])


def discount_percent(basket):
    """Return the discount of a basket's code."""
    return DISCOUNTS_PERCENT[basket["code"]]


FAULTS = {
    "empty-basket": ("/basket/average", average_price_cents, {"prices_cents": []}),
    "unknown-code": ("/basket/discount", discount_percent, {"code": "SUMMER"}),
}


def main(dsn, release, fault):
    path, function, basket = FAULTS[fault]
    sentry_sdk.init(dsn=dsn, release=release, environment="production", server_name="shop-1")
    sentry_sdk.get_current_scope().set_transaction_name(path)
    try:
        function(basket)
    except (ArithmeticError, LookupError) as error:
        sentry_sdk.capture_exception(error)
        print(f"{type(error).__name__}: {error}")
    sentry_sdk.flush(timeout=10)


main(*sys.argv[1:])
