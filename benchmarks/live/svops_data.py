"""Creates users, a workflow and a run to publish events of. Prints as JSON how to follow them."""

from __future__ import annotations

import json
import sys

import django

django.setup()

from django.utils import timezone  # noqa: E402 - models can be imported only now

from accounts import services  # noqa: E402
from accounts.models import User  # noqa: E402
from workflows.models import Dag, Run, Workflow  # noqa: E402


def main(users: int) -> None:
    readers = [
        User.objects.create_user(username=f"reader-{number}", email=f"reader-{number}@example.com")
        for number in range(users)
    ]
    workflow = Workflow.objects.create(name="benchmark", dag=Dag.objects.create(dag_id="benchmark"), owner=readers[0])
    run = Run.objects.create(
        workflow=workflow, user=readers[0], dag_id="benchmark", dag_run_id="benchmark", created_at=timezone.now()
    )
    data = {
        "tokens": [services.sign_in(user=reader).access_token for reader in readers],
        "workflow_id": workflow.pk,
        "run_id": str(run.pk),
    }
    sys.stdout.write(json.dumps(data))


if __name__ == "__main__":
    main(int(sys.argv[1]))
