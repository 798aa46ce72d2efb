"""What travels with tasks: a trace, as W3C Trace Context has it, and a correlation id.

A client puts it into the context of what it asks for, a worker takes it from there for a step, and
so does what the step asks for in its turn.  From SQL it is given as
`context => '{"traceparent": "00-…-01", "correlation_id": "…"}'`.
"""

from pgprog.tracing.carrying import carry, correlation_id, enter_step, sent_context, traceparent
from pgprog.tracing.spans import is_traced

__all__ = ["carry", "correlation_id", "enter_step", "is_traced", "sent_context", "traceparent"]
