import assert from "node:assert/strict";
import { test } from "node:test";

import { adviceOf, isAsked } from "../../static/console/questions.js";

const QUESTION = { subject: "Go on?", body: "", options: ["Yes", "No"], respondents: [], answer: null };

test("a task waits for a person in its own state, or deferred with an open question", () => {
  const answered = { ...QUESTION, answer: { chosen: ["Yes"], by: "ada" } };

  assert.equal(isAsked({ state: "awaiting_input", question: null }), true);
  assert.equal(isAsked({ state: "deferred", question: QUESTION }), true);
  assert.equal(isAsked({ state: "deferred", question: answered }), false);
  assert.equal(isAsked({ state: "deferred", question: null }), false);
  assert.equal(isAsked({ state: "success", question: answered }), false);
});

test("the advice names the options, and who may answer if only some may", () => {
  assert.equal(adviceOf(QUESTION), "Options: Yes, No. Answer it in Airflow.");
  assert.equal(
    adviceOf({ ...QUESTION, respondents: ["ada", "bob"] }),
    "Options: Yes, No. Answer it in Airflow. Only these accounts may: ada, bob.",
  );
  assert.equal(adviceOf(null), "Answer it in Airflow, which does not say here what it asks.");
});
