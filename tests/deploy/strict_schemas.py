"""Holds Kubernetes' own resources against its strict schemas; runs with the chart's Python.

    python strict_schemas.py 1.28 1.37 < resources.json

Prints a JSON object: the versions that there were schemas for, and what is wrong.
"""

import json
import sys
from functools import cache

from kubernetes_validate import utils


def main() -> None:
    oldest, newest = (tuple(map(int, each.split("."))) for each in sys.argv[1:3])
    known = dict.fromkeys(map(utils.major_minor, utils.all_versions()))
    versions = [each for each in known if oldest <= tuple(map(int, each.split("."))) <= newest]
    # It reads the definitions, a megabyte, for each resource anew.
    utils.schema_contents = cache(utils.schema_contents)
    wrong = []
    resources = json.load(sys.stdin)
    for version in versions:
        for each in resources:
            try:
                utils.validate(each, version, strict=True)
            except utils.ValidationError as error:
                place = ".".join(map(str, error.path))
                wrong.append(
                    f"{version} {each['kind']} {each['metadata']['name']}: {place}: {error.message}"
                )
            except utils.SchemaNotFoundError as error:
                wrong.append(error.message)
    print(json.dumps({"versions": versions, "wrong": wrong}))


if __name__ == "__main__":
    main()
