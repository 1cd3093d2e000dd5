from tests.app.runs.conftest import play, quick_stages, settings, shop

__all__ = ["play", "quick_stages", "settings", "shop"]
