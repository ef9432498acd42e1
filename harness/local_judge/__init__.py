"""The bundled judge: a chat model that answers in this process."""
