"""Turn pip's report of an installation into requirements with hashes: `make requirements`."""

import json
import sys

for package in json.load(sys.stdin)["install"]:
    source = package["download_info"]
    if "dir_info" in source:  # the project itself
        continue
    name, version = package["metadata"]["name"], package["metadata"]["version"]
    print(f"{name}=={version} --hash=sha256:{source['archive_info']['hashes']['sha256']}")
