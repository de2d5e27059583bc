"""The only importers of subprocess and asyncio: sockets, processes and the loop they hang on."""
