//! The mutator: a sequence of small changes that follows from one seed.

use fastrand::Rng;

/// Creates inputs from other inputs.
pub(crate) struct Mutator {
    random: Rng,
    dictionary: &'static [&'static [u8]],
}

/// Bytes at the edges of what parsers distinguish.
const EDGES: [u8; 12] = [0, 1, b'\n', b'\r', b' ', b':', b'0', b'9', 0x7f, 0x80, 0xfe, 0xff];

impl Mutator {
    pub(crate) fn new(seed: u64, dictionary: &'static [&'static [u8]]) -> Self {
        Self { random: Rng::with_seed(seed), dictionary }
    }

    /// The next input: one of the pool, changed in one to eight places.
    pub(crate) fn next(&mut self, pool: &[Vec<u8>], max_bytes: usize) -> Vec<u8> {
        let mut input = pool[self.below(pool.len())].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input, pool);
        }
        input.truncate(max_bytes);
        input
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.random.usize(..end)
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = EDGES[self.below(EDGES.len())],
            2 if at < input.len() => input[at] = self.below(256) as u8,
            3 => input.insert(at, EDGES[self.below(EDGES.len())]),
            4 => {
                let end = (at + self.length()).min(input.len());
                input.drain(at..end);
            }
            5 => {
                let end = (at + self.length()).min(input.len());
                let piece = input[at..end].to_vec();
                let times = 1 + self.below(4);
                for _ in 0..times {
                    insert(input, at, &piece);
                }
            }
            6 => {
                let other = &pool[self.below(pool.len())];
                let from = self.below(other.len() + 1);
                let end = (from + self.length()).min(other.len());
                insert(input, at, &other[from..end]);
            }
            7 if !self.dictionary.is_empty() => {
                let word = self.dictionary[self.below(self.dictionary.len())];
                insert(input, at, word);
            }
            8 => input.truncate(at),
            _ => input.push(self.below(256) as u8),
        }
    }

    /// Mostly short, now and then long.
    fn length(&mut self) -> usize {
        let most = [4, 16, 64, 1024][self.below(4)];
        1 + self.below(most)
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let rest = input.split_off(at.min(input.len()));
    input.extend_from_slice(piece);
    input.extend_from_slice(&rest);
}

/// FNV-1a: names a kept input.
pub(super) fn hash(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let pool = vec![b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"{}".to_vec()];
    let inputs = |seed| {
        let mut mutator = Mutator::new(seed, &[b"word"]);
        (0..200).map(|_| mutator.next(&pool, 64)).collect::<Vec<_>>()
    };
    assert_eq!(inputs(7), inputs(7));
    assert_ne!(inputs(7), inputs(8));
    assert!(inputs(7).iter().all(|input| input.len() <= 64));
}
