"""The building around the laboratory: REST, pages and live events over one store. It never computes with torch.

from modescape.settings import Settings
from modescape_api.app import create_app
app = create_app(Settings())
"""
