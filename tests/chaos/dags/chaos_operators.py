"""Small DAGs with branches, sensors, people and other DAGs. All of them end within seconds, or soon after an answer."""

import datetime

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator, ShortCircuitOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG, Param, task
from chaos_work import OPTIONS, dated, witness, work

PARAMS = {
    "seconds": Param(1, type="number", minimum=0, maximum=30),
    "fails": Param(False, type="boolean"),
    "label": Param("", type="string", maxLength=100),
}

with DAG("chaos_branch", params=PARAMS, **OPTIONS):
    choose = BranchPythonOperator(task_id="choose", python_callable=lambda: "left")
    gate = ShortCircuitOperator(task_id="gate", python_callable=lambda: False)

    @task
    def left(**context):
        work(**context)

    @task
    def right(**context):
        witness(context)

    @task
    def never(**context):
        witness(context)

    choose >> [left(), right()]
    gate >> never()

with DAG("chaos_waiting", params=PARAMS, **OPTIONS):
    looks = PythonSensor(
        task_id="looks", mode="reschedule", poke_interval=2, python_callable=lambda ti: ti.get_first_reschedule_date()
    )
    sleeps = TimeDeltaSensor(task_id="sleeps", delta=datetime.timedelta(seconds=3), deferrable=True)

    @task
    def wakes(**context):
        work(**context)

    [looks, sleeps] >> wakes()

with DAG("chaos_person", params=PARAMS, **OPTIONS):
    # Without an answer it approves itself.
    ask = ApprovalOperator(
        task_id="ask",
        subject="May it go on?",
        defaults="Approve",
        response_timeout=datetime.timedelta(seconds=15),
    )

    @task
    def answered(**context):
        work(**context)

    ask >> answered()

with DAG("chaos_dates", params=PARAMS, **OPTIONS):
    # Without a logical date these templates have no value, and the task fails.
    PythonOperator(
        task_id="dated",
        python_callable=dated,
        op_kwargs={
            "day": "{{ ds }}",
            "interval": "{{ data_interval_start.isoformat() }} {{ data_interval_end.isoformat() }}",
        },
    )

with DAG("chaos_starter", params=PARAMS, **OPTIONS):
    # Starts a run of another DAG, which nobody has triggered through SVOps.
    TriggerDagRunOperator(
        task_id="starts", trigger_dag_id="chaos_chain", conf={"seconds": 0.5, "label": "by {{ run_id }}"}
    )
