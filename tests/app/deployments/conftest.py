from tests.model_server import handlers, settings, vllm, vllm_url, worker

__all__ = ["handlers", "settings", "vllm", "vllm_url", "worker"]
