//! Every limit of the protocol, in one place.

/// Longest service name, in characters (all of them ASCII).
pub const SERVICE_NAME_MAX: usize = 64;
/// Longest instance id, in characters (all of them ASCII).
pub const INSTANCE_ID_MAX: usize = 128;
/// The instance id that a flat call without one acts on.
pub const DEFAULT_INSTANCE_ID: &str = "default";
/// Longest session id, in characters.
pub const SESSION_MAX: usize = 64;
/// Longest endpoint URL, in characters.
pub const ENDPOINT_MAX: usize = 512;
/// Longest health endpoint path, in characters.
pub const HEALTH_ENDPOINT_MAX: usize = 256;
/// The health endpoint of a registration that names none.
pub const DEFAULT_HEALTH_ENDPOINT: &str = "/health";
/// Most metadata keys of one instance.
pub const METADATA_KEYS_MAX: usize = 32;
/// Longest metadata key, in characters (all of them ASCII).
pub const METADATA_KEY_MAX: usize = 64;
/// Longest metadata value, in characters.
pub const METADATA_VALUE_MAX: usize = 256;
/// Shortest lease, in seconds.
pub const TTL_MIN: u32 = 3;
/// Longest lease, in seconds.
pub const TTL_MAX: u32 = 3600;
/// The lease of a registration that names none: three beats of [`DEFAULT_HEARTBEAT_INTERVAL`].
pub const DEFAULT_TTL: u32 = 90;
/// Seconds between two beats, unless configured or told otherwise.
pub const DEFAULT_HEARTBEAT_INTERVAL: u32 = 30;
/// Longest health check text, in characters, after trimming.
pub const OUTPUT_MAX: usize = 256;
/// Longest reason of a drain, in characters, after trimming.
pub const REASON_MAX: usize = 256;
/// Largest request body, in bytes.
pub const BODY_MAX: usize = 64 * 1024;
/// Largest request head (request line and header fields), in bytes.
pub const HEAD_MAX: usize = 16 * 1024;
/// Entries on a page of `GET /instances` that names no limit.
pub const PAGE_DEFAULT: usize = 100;
/// Most entries on a page of `GET /instances`.
pub const PAGE_MAX: usize = 1000;

/// Seconds between two beats of an instance with this lease: three beats in a lease, and never 0.
pub const fn heartbeat_interval(ttl_seconds: u32) -> u32 {
    let third = ttl_seconds / 3;
    if third == 0 { 1 } else { third }
}
