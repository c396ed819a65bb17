"""Writes the operations of AWS's services, which `ocsf-lake rules check` looks names up in, from botocore's models.

Run it when botocore is new: python scripts/compile_operations.py
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import botocore
from botocore.loaders import Loader

TARGET = Path(__file__).resolve().parents[1] / "ocsf_lake" / "detections" / "operations.json.gz"


def main() -> None:
    """Writes the table."""
    loader = Loader()
    services: dict[str, dict[str, list[str]]] = {}
    for service in loader.list_available_services("service-2"):
        model = loader.load_service_model(service, "service-2")
        metadata = model["metadata"]
        for prefix in {metadata["endpointPrefix"], metadata.get("signingName", metadata["endpointPrefix"]), service}:
            operations = services.setdefault(prefix, {})
            for name, operation in model["operations"].items():
                shape = operation.get("input", {}).get("shape")
                members = model["shapes"][shape].get("members", {}) if shape else {}
                # Some services share a prefix, and operations of the same name.
                operations[name] = sorted({*operations.get(name, []), *members})
    text = json.dumps({"botocore": botocore.__version__, "operations": services}, sort_keys=True, separators=(",", ":"))
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
