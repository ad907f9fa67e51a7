//! SHA-256's compression function (FIPS 180-4, 6.2.2) on a vector unit of x86-64, a lane a message.
//!
//! All of the crate's `unsafe` is here: calls into functions that need a vector unit, and loads and stores of whole arrays. Knows
//! nothing of messages and padding.
#![allow(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::*;

/// A block of SHA-256.
pub(super) const BLOCK_BYTES: usize = 64;
/// The most messages that are worked on at once.
pub(super) const LANES_MAX: usize = 16;

/// A block of each lane.
pub(super) type Blocks = [[u8; BLOCK_BYTES]; LANES_MAX];
/// The eight words of each lane's state, word by word.
pub(super) type States = [[u32; LANES_MAX]; 8];

/// A vector unit that this processor has. Only [`Unit::all`] makes one, after it asked the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Avx2,
    Avx512,
}

impl Unit {
    /// The units that are here, widest last.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        [is_x86_feature_detected!("avx2").then_some(Kind::Avx2), avx512.then_some(Kind::Avx512)].into_iter().flatten().map(Self)
    }

    /// The one that is faster than `sha2`, if one is: eight lanes are slower than SHA-NI.
    pub(super) fn best() -> Option<Self> {
        Self::all().last().filter(|unit| unit.0 == Kind::Avx512 || !is_x86_feature_detected!("sha"))
    }

    pub(super) const fn lanes(self) -> usize {
        match self.0 {
            Kind::Avx2 => 8,
            Kind::Avx512 => 16,
        }
    }

    /// From how many messages on it beats one after the other, with lanes that idle.
    pub(super) fn worthwhile_from(self) -> usize {
        if is_x86_feature_detected!("sha") { self.lanes() * 3 / 4 } else { self.lanes() / 4 }
    }

    /// Takes a block into each lane's state. Lanes beyond the unit's stay as they are.
    pub(super) fn compress(self, states: &mut States, blocks: &Blocks) {
        // SAFETY: a `Unit` of a kind is made only after the processor said that it has that kind's instructions.
        match self.0 {
            Kind::Avx2 => unsafe { compress_8(states, blocks) },
            Kind::Avx512 => unsafe { compress_16(states, blocks) },
        }
    }
}

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2).
#[rustfmt::skip]
const ROUND: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Sixteen rounds, written out so that each word stays in a register.
macro_rules! sixteen {
    ($round:ident) => {
        sixteen!($round: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($round:ident: $($t:literal)*) => {
        $($round!($t);)*
    };
}

/// The 64 rounds over vectors, with the operations of one vector unit.
macro_rules! rounds {
    ($state:expr, $words:expr, $add:ident, $splat:ident, $xor3:ident, $choose:ident, $majority:ident, $rotate:ident, $shift:ident) => {{
        let ([mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h], mut w) = ($state, $words);
        macro_rules! round {
            ($t:expr, $k:expr) => {{
                let sum = $xor3($rotate::<6, 26>(e), $rotate::<11, 21>(e), $rotate::<25, 7>(e));
                let first = $add($add($add(h, $splat($k.cast_signed())), $add(w[$t], $choose(e, f, g))), sum);
                let sum = $xor3($rotate::<2, 30>(a), $rotate::<13, 19>(a), $rotate::<22, 10>(a));
                let second = $add(sum, $majority(a, b, c));
                (h, g, f, e, d, c, b, a) = (g, f, e, $add(d, first), c, b, a, $add(first, second));
            }};
        }
        macro_rules! expand {
            ($t:expr) => {{
                let (early, late) = (w[($t + 1) % 16], w[($t + 14) % 16]);
                let early = $xor3($rotate::<7, 25>(early), $rotate::<18, 14>(early), $shift::<3>(early));
                let late = $xor3($rotate::<17, 15>(late), $rotate::<19, 13>(late), $shift::<10>(late));
                w[$t] = $add($add(w[$t], w[($t + 9) % 16]), $add(early, late));
            }};
        }
        macro_rules! first {
            ($t:expr) => {
                round!($t, ROUND[$t])
            };
        }
        sixteen!(first);
        for constants in ROUND.as_chunks::<16>().0.iter().skip(1) {
            macro_rules! later {
                ($t:expr) => {{
                    expand!($t);
                    round!($t, constants[$t]);
                }};
            }
            sixteen!(later);
        }
        [a, b, c, d, e, f, g, h]
    }};
}

#[target_feature(enable = "avx512f,avx512bw")]
fn compress_16(states: &mut States, blocks: &Blocks) {
    // SAFETY: each reads the 64 bytes of its array; unaligned loads may begin anywhere.
    let (rows, before) = unsafe {
        (
            blocks.each_ref().map(|block| _mm512_loadu_si512(block.as_ptr().cast())),
            states.each_ref().map(|words| _mm512_loadu_si512(words.as_ptr().cast())),
        )
    };
    let after = rounds!(before, transpose_16(rows), _mm512_add_epi32, _mm512_set1_epi32, xor3_16, choose_16, majority_16, rotate_16, shift_16);
    for ((words, before), after) in states.iter_mut().zip(before).zip(after) {
        // SAFETY: writes the 64 bytes of the array; unaligned stores may begin anywhere.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), _mm512_add_epi32(before, after)) };
    }
}

/// Sixteen blocks, a row each, as sixteen words of all blocks, from the messages' big endian.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn transpose_16(rows: [__m512i; 16]) -> [__m512i; 16] {
    let order = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let mut r = rows;
    for row in &mut r {
        *row = _mm512_shuffle_epi8(*row, order);
    }
    // Words of two rows beside each other, then of four: quarter k of `r[4g + c]` is word 4k + c of the rows from 4g on.
    for pair in r.as_chunks_mut::<2>().0 {
        *pair = [_mm512_unpacklo_epi32(pair[0], pair[1]), _mm512_unpackhi_epi32(pair[0], pair[1])];
    }
    for [p, q, s, t] in r.as_chunks_mut::<4>().0 {
        let (low, high) = ((*p, *s), (*q, *t));
        (*p, *q) = (_mm512_unpacklo_epi64(low.0, low.1), _mm512_unpackhi_epi64(low.0, low.1));
        (*s, *t) = (_mm512_unpacklo_epi64(high.0, high.1), _mm512_unpackhi_epi64(high.0, high.1));
    }
    for c in 0..4 {
        // Even and odd quarters of the first eight rows and of the last eight.
        let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(r[c], r[4 + c]), _mm512_shuffle_i32x4::<0xdd>(r[c], r[4 + c]));
        let (more_even, more_odd) = (_mm512_shuffle_i32x4::<0x88>(r[8 + c], r[12 + c]), _mm512_shuffle_i32x4::<0xdd>(r[8 + c], r[12 + c]));
        (r[c], r[8 + c]) = (_mm512_shuffle_i32x4::<0x88>(even, more_even), _mm512_shuffle_i32x4::<0xdd>(even, more_even));
        (r[4 + c], r[12 + c]) = (_mm512_shuffle_i32x4::<0x88>(odd, more_odd), _mm512_shuffle_i32x4::<0xdd>(odd, more_odd));
    }
    r
}

#[target_feature(enable = "avx512f")]
#[inline]
fn rotate_16<const RIGHT: i32, const LEFT: i32>(x: __m512i) -> __m512i {
    _mm512_ror_epi32::<RIGHT>(x)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn shift_16<const RIGHT: u32>(x: __m512i) -> __m512i {
    _mm512_srli_epi32::<RIGHT>(x)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn xor3_16(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0x96>(x, y, z)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn choose_16(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xca>(x, y, z)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn majority_16(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xe8>(x, y, z)
}

/// Works on the first eight lanes.
#[target_feature(enable = "avx2")]
fn compress_8(states: &mut States, blocks: &Blocks) {
    let Some(blocks) = blocks.first_chunk::<8>() else { return };
    // SAFETY: each reads 32 of the 64 bytes of its array; unaligned loads may begin anywhere.
    let (low, high, before) = unsafe {
        let half = |block: &[u8; BLOCK_BYTES], at: usize| _mm256_loadu_si256(block[at..at + 32].as_ptr().cast());
        (
            blocks.each_ref().map(|block| half(block, 0)),
            blocks.each_ref().map(|block| half(block, 32)),
            states.each_ref().map(|words| _mm256_loadu_si256(words.as_ptr().cast())),
        )
    };
    let [a, b, c, d, e, f, g, h] = transpose_8(low);
    let [i, j, k, l, m, n, o, p] = transpose_8(high);
    let words = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
    let after = rounds!(before, words, _mm256_add_epi32, _mm256_set1_epi32, xor3_8, choose_8, majority_8, rotate_8, shift_8);
    for ((words, before), after) in states.iter_mut().zip(before).zip(after) {
        // SAFETY: writes 32 of the 64 bytes of the array; unaligned stores may begin anywhere.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), _mm256_add_epi32(before, after)) };
    }
}

/// Halves of eight blocks, a row each, as eight words of all, from the messages' big endian.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose_8(rows: [__m256i; 8]) -> [__m256i; 8] {
    let order = _mm256_broadcastsi128_si256(_mm_set_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203));
    let mut r = rows;
    for row in &mut r {
        *row = _mm256_shuffle_epi8(*row, order);
    }
    for pair in r.as_chunks_mut::<2>().0 {
        *pair = [_mm256_unpacklo_epi32(pair[0], pair[1]), _mm256_unpackhi_epi32(pair[0], pair[1])];
    }
    for [p, q, s, t] in r.as_chunks_mut::<4>().0 {
        let (low, high) = ((*p, *s), (*q, *t));
        (*p, *q) = (_mm256_unpacklo_epi64(low.0, low.1), _mm256_unpackhi_epi64(low.0, low.1));
        (*s, *t) = (_mm256_unpacklo_epi64(high.0, high.1), _mm256_unpackhi_epi64(high.0, high.1));
    }
    for c in 0..4 {
        (r[c], r[4 + c]) = (_mm256_permute2x128_si256::<0x20>(r[c], r[4 + c]), _mm256_permute2x128_si256::<0x31>(r[c], r[4 + c]));
    }
    r
}

#[target_feature(enable = "avx2")]
#[inline]
fn rotate_8<const RIGHT: i32, const LEFT: i32>(x: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_srli_epi32::<RIGHT>(x), _mm256_slli_epi32::<LEFT>(x))
}

#[target_feature(enable = "avx2")]
#[inline]
fn shift_8<const RIGHT: i32>(x: __m256i) -> __m256i {
    _mm256_srli_epi32::<RIGHT>(x)
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor3_8(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(x, y), z)
}

#[target_feature(enable = "avx2")]
#[inline]
fn choose_8(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn majority_8(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_and_si256(x, y), _mm256_and_si256(z, _mm256_or_si256(x, y)))
}
