"""Orders that are paid in parts and expire: `pgprog dev examples/shop.py` serves them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec

from pgprog import Finish, Intent, Namespace, Reject, SetTimer, Step


class Order(msgspec.Struct, frozen=True):
    due: Decimal
    paid: Decimal = Decimal(0)


orders = Namespace("orders", state=Order)


@orders.init
def open_order(step: Step[Order], due: Decimal) -> Intent[Order]:
    return Intent(
        state=Order(due=due),
        events=[{"opened": due}],
        timers=[SetTimer(after=timedelta(days=3), name="expiry")],
    )


@orders.call
async def pay(step: Step[Order], amount: Decimal) -> Intent[Order, Decimal]:
    order = msgspec.structs.replace(step.state, paid=step.state.paid + amount)
    if order.paid > order.due:
        raise Reject({"over": order.paid - order.due})
    rest = order.due - order.paid
    then = Finish() if rest == 0 else None
    return Intent(state=order, events=[{"paid": amount}], response=rest, then=then)


@orders.timeout("expiry")
def expire(step: Step[Order]) -> Intent[Order]:
    return Intent(events=["expired"], then=Finish())
