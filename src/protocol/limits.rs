//! Every limit of a server's machines in one place: queues, windows, tables and messages.

/// Limits of one server; the same on all servers of a cluster where they concern data.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Limits {
    /// Longest key, in bytes.
    pub key_bytes_max: u32,
    /// Longest value, in bytes.
    pub value_bytes_max: u32,
    /// Most writes of a key set that are prepared and not committed.
    pub window_ops_max: usize,
    /// Most bytes of keys and values in a key set's window.
    pub window_bytes_max: usize,
    /// Most requests that wait at one key set to be admitted.
    pub queue_requests_max: usize,
    /// Most bytes of requests that wait at one key set to be admitted.
    pub queue_bytes_max: usize,
    /// Most duplicate records of a key set; the oldest goes first, and raises the horizon.
    pub dedup_records_max: usize,
    /// Most bytes of the table of a key set's keys that expire: a copy run sends it at once, and
    /// with it those of all runs that start together.
    pub expiries_bytes_max: u32,
    /// A learner that is this many writes behind loses its run.
    pub learner_lag_ops_max: u64,
    /// And so does one with more bytes of writes on their way.
    pub learner_lag_bytes_max: usize,
    /// Most bytes in the windows of all key sets of a worker: what a new link is sent at once.
    pub worker_window_bytes_max: usize,
    /// The longest lease that a message may ask for, in milliseconds.
    pub lease_ms_max: u64,
    /// Most bytes of records in one copy chunk (one record may be larger).
    pub chunk_bytes_max: u32,
    /// Most records in one copy chunk.
    pub chunk_items_max: u32,
    /// Most keys that are looked up for one answer of what changed: each is a read of its own.
    pub changes_items_max: u32,
    /// Copy chunks of one run that are sent and not stored yet.
    pub chunks_in_flight_max: u32,
    /// Most bytes of entries in one prepare message (one entry may be larger).
    pub prepare_bytes_max: usize,
    /// Most records, and bytes of records, in one page of a scan.
    pub page_items_max: u32,
    pub page_bytes_max: u32,
    /// Sets in one heartbeat or beacon datagram, so that it fits in a packet.
    pub datagram_sets_max: usize,
    /// Members that a write needs; below it a set serves reads and refuses writes.
    pub min_write_copies: u16,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            key_bytes_max: 1 << 10,
            value_bytes_max: 1 << 20,
            window_ops_max: 4_096,
            window_bytes_max: 16 << 20,
            queue_requests_max: 4_096,
            queue_bytes_max: 16 << 20,
            dedup_records_max: 4_096,
            expiries_bytes_max: 512 << 10,
            learner_lag_ops_max: 65_536,
            learner_lag_bytes_max: 8 << 20,
            worker_window_bytes_max: 16 << 20,
            lease_ms_max: 60_000,
            chunk_bytes_max: 256 << 10,
            chunk_items_max: 4_096,
            changes_items_max: 64,
            chunks_in_flight_max: 2,
            prepare_bytes_max: 256 << 10,
            page_items_max: 4_096,
            page_bytes_max: 256 << 10,
            datagram_sets_max: 64,
            min_write_copies: 1,
        }
    }
}
