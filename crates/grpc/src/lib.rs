//! The gRPC kit: server, client, errors with details, pages, masks, etags.
