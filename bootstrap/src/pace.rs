//! How fast strangers may ask: each question costs a proof's check, and some a round of ENV.

use host::Instant;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Addresses that are remembered; more at a time have to come again.
const SOURCES_MAX: usize = 1024;

/// So many questions of one address at once, and afterwards one more every so often.
pub(crate) struct Pace {
    at_once: u32,
    every: Duration,
    /// When the last of its questions will have been paid for, by address.
    busy_until: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Pace {
    pub(crate) fn new(at_once: u32, every: Duration) -> Pace {
        Pace {
            at_once,
            every,
            busy_until: Mutex::default(),
        }
    }

    /// Whether a question that comes `from` there may be answered now.
    pub(crate) fn admits(&self, from: IpAddr, now: Instant) -> bool {
        let source = source(from);
        let mut busy = self
            .busy_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let until = busy.get(&source).copied().unwrap_or(now).max(now);
        if until.since(now) + self.every > self.every * self.at_once {
            return false;
        }
        if busy.len() >= SOURCES_MAX {
            busy.retain(|_, until| *until > now);
        }
        if busy.len() >= SOURCES_MAX && !busy.contains_key(&source) {
            return false;
        }
        busy.insert(source, until + self.every);
        true
    }
}

/// Who is likely to be one: a host has all addresses of its IPv6 network.
fn source(address: IpAddr) -> IpAddr {
    const HOST_BITS: u32 = 64;
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> HOST_BITS << HOST_BITS).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_a_burst_and_then_a_pace() {
        let pace = Pace::new(3, Duration::from_millis(100));
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let asked = |from, ms| (0..10).filter(|_| pace.admits(from, at(ms))).count();
        assert_eq!((asked(one, 0), asked(two, 0)), (3, 3));
        assert_eq!(
            (asked(one, 99), asked(one, 100), asked(one, 400)),
            (0, 1, 3)
        );
        // One network is one source.
        let of = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 7, 1, 2, 3, last]);
        let many = (0..100).filter(|n| pace.admits(of(*n), at(1000))).count();
        assert_eq!(many, 3);
        assert_eq!(
            asked(IpAddr::from([0x2001, 0xdb8, 0, 8, 0, 0, 0, 1]), 1000),
            3
        );
    }

    #[test]
    fn more_addresses_than_can_be_remembered_come_again() {
        let pace = Pace::new(1, Duration::from_secs(1));
        let from = |n: u32| IpAddr::from(n.to_be_bytes());
        let admitted = |at| (0..5000).filter(|n| pace.admits(from(*n), at)).count();
        assert_eq!(admitted(Instant::default()), SOURCES_MAX);
        assert_eq!(admitted(Instant::default()), 0);
        assert_eq!(
            admitted(Instant::default() + Duration::from_secs(1)),
            SOURCES_MAX
        );
    }
}
