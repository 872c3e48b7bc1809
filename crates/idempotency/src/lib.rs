//! Request ids: the same request gets the same reply, once.
