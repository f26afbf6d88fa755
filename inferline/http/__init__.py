"""
HTTP/1.1 as a client: the little of it that calls to AWS and to an LLM server need, on httptools.

A call takes a third of the CPU that a general client takes, and calls are most of what a gateway
and a provider do. There are no redirects, cookies, compression or repeats: what is sent is what was
given, once, by way of a proxy where one is set.
"""
