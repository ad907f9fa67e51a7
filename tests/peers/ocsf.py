"""Judges OCSF events, one JSON document a line, by the schemas that ocsf-json-schema carries.

    ocsf.py EVENTS

Each must be valid in its class and have the class's own names for class, activity and severity. For each class, broken copies of an
event must be rejected: one without a required attribute for each that is required, one without any of those of which the class wants
one, one with an attribute that it does not have, one with another class's number, one with a text for a time. Exit status 0 when all is as it must be.
"""

import copy
import json
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

VERSION = "1.8.0"

raw = get_ocsf_schema(version=VERSION)
schemas = OcsfJsonSchemaEmbedded(raw)
validators = {}


def validator(uid):
    if uid not in validators:
        schema = schemas.get_class_schema(schemas.lookup_class_name_from_uid(uid), [])
        Draft202012Validator.check_schema(schema)
        validators[uid] = (Draft202012Validator(schema), schema)
    return validators[uid]


def captions_are_right(event):
    """The texts beside the numbers, which the JSON schemas leave free."""
    attributes = raw["classes"][schemas.lookup_class_name_from_uid(event["class_uid"])]
    found = [event["class_name"] == attributes["caption"]]
    for number, text in [("activity_id", "activity_name"), ("severity_id", "severity"), ("status_id", "status")]:
        if number in event:
            found.append(event[text] == attributes["attributes"][number]["enum"][str(event[number])]["caption"])
    return all(found)


def broken(event, schema):
    for required in schema["required"]:
        yield f"without {required}", {key: value for key, value in event.items() if key != required}
    for choice in ("anyOf", "oneOf"):
        names = {name for option in schema.get(choice, []) for name in option["required"]}
        if names:
            yield f"without any of {sorted(names)}", {key: value for key, value in event.items() if key not in names}
    yield "with an attribute that is none", {**event, "sulku": 1}
    yield "with another class's number", {**event, "class_uid": 9999}
    yield "with a text as time", {**event, "time": "now"}
    without_version = copy.deepcopy(event)
    del without_version["metadata"]["version"]
    yield "without the schema's version", without_version


def main():
    with open(sys.argv[1], encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines]
    wrong, broken_seen, classes = 0, 0, set()
    for event in events:
        name = f"{event['metadata'].get('event_code')} ({event['class_name']})"
        judge, schema = validator(event["class_uid"])
        for error in judge.iter_errors(event):
            wrong += 1
            print(f"{name}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
        if not captions_are_right(event):
            wrong += 1
            print(f"{name}: a text does not fit its number")
        if event["metadata"]["version"] != VERSION:
            wrong += 1
            print(f"{name}: not of version {VERSION}")
        if event["class_uid"] in classes:
            continue
        classes.add(event["class_uid"])
        for what, copy_of_it in broken(event, schema):
            broken_seen += 1
            if judge.is_valid(copy_of_it):
                wrong += 1
                print(f"{name}: accepted {what}")
    if wrong or not events:
        print(f"{wrong} things are wrong")
        return 1
    print(f"{len(events)} events are valid, of classes {sorted(classes)}; {broken_seen} broken ones were rejected")
    return 0


sys.exit(main())
