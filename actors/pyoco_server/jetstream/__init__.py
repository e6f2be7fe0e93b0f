"""The bridge to NATS JetStream: the only place that knows nats and asyncio."""
