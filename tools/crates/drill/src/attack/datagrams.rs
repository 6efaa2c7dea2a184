//! Datagrams that are no QUIC, or only look like it.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use super::handshakes::Target;

/// Datagrams between two pauses: more would only be dropped by the kernel.
const BURST: u64 = 64;

/// The longest that a path of 1500 bytes carries.
const LENGTH_MAX: usize = 1_452;

/// Sends `count` of them to `target`, and says how many.
///
/// # Errors
/// This machine refuses a socket.
pub async fn attack(target: &Target, count: u64, bar: &ProgressBar) -> Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no free UDP port")?;
    let mut random = Random(0x5eed ^ u64::from(target.address.port()));
    for number in 0..count {
        let datagram = garbage(&mut random, number);
        socket.send_to(&datagram, target.address).context("sending garbage")?;
        if number % BURST == BURST - 1 {
            bar.inc(BURST);
            // The processes under attack share this machine's processors.
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
    Ok(count)
}

/// Noise, or noise behind the head of a packet that begins a connection.
fn garbage(random: &mut Random, number: u64) -> Vec<u8> {
    let length = 1 + random.below(LENGTH_MAX);
    let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
    if number.is_multiple_of(2) {
        return bytes;
    }
    // Long header, fixed bit, Initial; version 1, or one that nobody speaks (RFC 9000, 17.2).
    bytes.resize(length.max(1_200), 0);
    let version = if number % 4 == 1 { 1_u32 } else { 0x0a1a_2a3a };
    bytes[0] = 0xc0 | (bytes[0] & 0x0f);
    bytes[1..5].copy_from_slice(&version.to_be_bytes());
    // Two connection ids of eight bytes, no token, and the length of what follows.
    bytes[5] = 8;
    bytes[14] = 8;
    bytes[23] = 0;
    let rest = (bytes.len() - 26) as u16;
    bytes[24..26].copy_from_slice(&(0x4000 | rest).to_be_bytes());
    bytes
}

/// Numbers that differ from run to run in nothing (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
