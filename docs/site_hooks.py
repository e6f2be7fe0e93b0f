"""What the site has that is made as it is built: the OpenAPI document of the gateway."""

from __future__ import annotations

import json
from unittest.mock import MagicMock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from pyoco_http.app import create_app
from pyoco_http.openapi.document import build_document
from pyoco_server.settings import Settings


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the document beside the page that shows it."""
    backend = MagicMock(settings=Settings())
    document = json.dumps(build_document(create_app(backend), backend))
    files.append(File.generated(config, "reference/openapi.json", content=document))
    return files
