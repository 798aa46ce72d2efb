from pgprog import Engine, Intent, Namespace, Step, migrate
from pgprog.embedded import EmbeddedPostgres

hello = Namespace("hello")


@hello.init
def begin(step: Step) -> Intent:
    return Intent(state=0)


@hello.call
def greet(step: Step, name: str) -> Intent:
    return Intent(state=step.state + 1, response=f"Hello {name}, you are number {step.state + 1}")


with EmbeddedPostgres() as server:
    migrate(server.dsn)
    with Engine(server.dsn, [hello]) as engine:
        engine.init(begin, "world")
        print(engine.call(greet, "world", name="Ada"))
