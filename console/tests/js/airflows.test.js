import assert from "node:assert/strict";
import { test } from "node:test";

import { Airflows, dagKey, dagPath } from "../../static/console/airflows.js";

test("the address of a DAG names its Airflow only if it is another one than the default", () => {
  assert.equal(dagPath({ airflow: "default", dag_id: "a b" }), "/dags/a%20b");
  assert.equal(dagPath({ airflow: "prod", dag_id: "etl" }), "/dags/etl?airflow=prod");
});

test("DAGs of one dag_id in two Airflows are two", () => {
  assert.notEqual(dagKey({ airflow: "prod", dag_id: "etl" }), dagKey({ airflow: "default", dag_id: "etl" }));
  assert.equal(dagKey({ airflow: "prod", dag_id: "etl" }), dagKey({ airflow: "prod", dag_id: "etl" }));
});

test("a name is shown as soon as there are two", () => {
  const airflows = new Airflows();
  assert.equal(airflows.concerns("prod"), true);
  airflows.add([{ airflow: "default" }, { airflow: "default" }]);
  assert.equal(airflows.shown("default"), "");
  assert.equal(airflows.concerns("prod"), false);
  airflows.add([{ airflow: "prod" }]);
  assert.equal(airflows.shown("default"), "default");
  assert.equal(airflows.shown("prod"), "prod");
  assert.equal(airflows.concerns("prod"), true);
});

test("a sentence names an Airflow as soon as there are two", () => {
  const airflows = new Airflows();
  airflows.add([{ airflow: "default" }]);
  assert.deepEqual([airflows.called(["default"]), airflows.called(["prod"])], ["Airflow", "The Airflow prod"]);
  airflows.add([{ airflow: "prod" }]);
  assert.equal(airflows.called(["default"]), "The Airflow default");
  assert.equal(airflows.called(["prod", "default"]), "The Airflows default and prod");
});
