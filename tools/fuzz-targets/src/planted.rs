//! A bug planted on purpose: `tools/fuzz` counts only if this one is found.
//!
//! It lies behind a magic word, a number and a checksum of a byte, as bugs in decoders do: blind
//! noise finds it once in 2^72 tries, whoever is led by coverage and comparisons in a second.

/// Panics on one kind of input only.
pub fn bug(data: &[u8]) {
    let Some((magic, rest)) = data.split_first_chunk::<4>() else { return };
    let Some((number, rest)) = rest.split_first_chunk::<4>() else { return };
    if magic != b"TNDM" || u32::from_le_bytes(*number) != 0x5eed_c0de {
        return;
    }
    if let [first, second, ..] = rest
        && *second == first.wrapping_add(1)
    {
        panic!("the planted bug was found");
    }
}
