//! What every connection pool shares: deadlines, the FIFO gate, leases, typed errors, statistics.
