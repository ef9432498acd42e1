"""The embedded judge: a langchain chat model that computes in this process."""
