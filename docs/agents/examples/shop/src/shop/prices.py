"""What a customer pays."""


def total(prices: list[float], percent_off: float = 0.0) -> float:
    """Sum of the prices, less a discount.

    >>> total([10.0, 5.0], 10)
    13.5
    """
    return round(sum(prices) * (100 - percent_off) / 100, 2)


def discount(customer: str, count: int, member: bool, coupon: str) -> int:
    """Percent that a customer is given."""
    percent = 0
    if member:
        if count > 10:
            percent = 15
        elif count > 5:
            percent = 10
        else:
            percent = 5
    elif count > 10:
        percent = 5
    if coupon:
        if coupon == "WELCOME":
            if count > 1 and not member:
                percent += 5
        elif coupon.startswith("VIP"):
            for letter in coupon[3:]:
                if letter.isdigit() and int(letter) > 7:
                    percent += 10
                    break
        elif customer == "staff" or coupon == "STAFF":
            percent = 30
    return min(percent, 40)


def in_words(percent: int) -> str:
    """How a discount is told.

    >>> in_words(0)
    'full price'
    >>> in_words(30)
    '30 % off'
    """
    if percent <= 0:
        return "full price"
    return f"{percent} % off"


def _euros(amount: float) -> str:
    return f"{amount:.2f} EUR"
