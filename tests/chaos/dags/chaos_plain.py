"""Small DAGs of Python tasks, one for each way in which a run can go. All of them end within seconds."""

import datetime

from airflow.sdk import DAG, Param, setup, task, task_group, teardown
from chaos_work import OPTIONS, witness, work

PARAMS = {
    "seconds": Param(1, type="number", minimum=0, maximum=30),
    "fails": Param(False, type="boolean"),
    "label": Param("", type="string", maxLength=100),
}

with DAG("chaos_chain", params=PARAMS, **OPTIONS):

    @task
    def first(**context):
        work(**context)

    @task
    def second(**context):
        witness(context)

    @task
    def third(**context):
        witness(context)

    first() >> second() >> third()

with DAG("chaos_mapped", params=PARAMS, max_active_tasks=3, **OPTIONS):

    @task
    def instance(number: int, **context):
        work(**context)

    @task
    def after(**context):
        witness(context)

    instance.expand(number=list(range(6))) >> after()

with DAG("chaos_retries", params=PARAMS, **OPTIONS):

    @task(retries=1, retry_delay=datetime.timedelta(seconds=2))
    def fails_once(**context):
        work(**context)

    @task
    def behind(**context):
        witness(context)

    fails_once() >> behind()

with DAG("chaos_setup", params=PARAMS, **OPTIONS):

    @setup
    def make_place(**context):
        witness(context)

    @task
    def use_place(**context):
        work(**context)

    @teardown
    def delete_place(**context):
        witness(context)

    made, gone = make_place(), delete_place()
    made >> use_place() >> gone
    made >> gone

with DAG("chaos_timeout", params=PARAMS, dagrun_timeout=datetime.timedelta(seconds=8), **OPTIONS):

    @task
    def slow(**context):
        work(seconds=context["params"]["seconds"] * 10 if context["ti"].try_number == 1 else 0, **context)

    @task
    def behind_slow(**context):
        witness(context)

    slow() >> behind_slow()

with DAG("chaos_groups", params=PARAMS, **OPTIONS):

    @task_group
    def part(number: int):
        @task
        def load(value: int, **context):
            work(**context)

        @task
        def check(**context):
            witness(context)

        load(number) >> check()

    part.expand(number=[1, 2])
