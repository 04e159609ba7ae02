use super::*;
use host::Rng;
use host::sim::SimRng;

fn frames() -> Vec<Frame> {
    let body = |n: usize| Bytes::from((0..n).map(|i| i as u8).collect::<Vec<_>>());
    let refusals = [
        Refusal::NoHandler {
            lane: Lane::Bulk,
            kind: Kind(700),
        },
        Refusal::Busy,
        Refusal::Stopping,
        Refusal::Malformed("ünlesbar".to_owned()),
        Refusal::AnswerTooLong(1 << 40),
        Refusal::Abandoned,
    ];
    let mut frames = vec![
        Frame::Call {
            id: u64::MAX,
            kind: Kind(3),
            timeout_ms: 1000,
            body: body(300),
        },
        Frame::OneWay {
            kind: Kind(9),
            body: body(0),
        },
        Frame::Cancel { id: 7 },
        Frame::Answer {
            id: 1,
            body: body(1),
        },
        Frame::Open {
            kind: Kind(8),
            body: body(2),
        },
        Frame::Item { body: body(5000) },
        Frame::End,
    ];
    for refusal in refusals {
        frames.push(Frame::Refused {
            id: 2,
            refusal: refusal.clone(),
        });
        frames.push(Frame::Failed { refusal });
    }
    frames
}

fn encoded(frames: &[Frame]) -> Bytes {
    let mut bytes = BytesMut::new();
    for frame in frames {
        frame.clone().encode(&mut bytes);
    }
    bytes.freeze()
}

/// Decodes pieces of at most `piece` bytes.
fn decoded(limit: usize, bytes: &Bytes, piece: usize) -> Result<Vec<Frame>, FrameError> {
    let (mut decoder, mut frames) = (Decoder::new(limit), Vec::new());
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        decoder.feed(rest.split_to(piece.min(rest.len())));
        while let Some(frame) = decoder.next()? {
            frames.push(frame);
        }
    }
    decoder.check_end().map(|()| frames)
}

#[test]
fn frames_come_back_however_they_are_cut() {
    let (frames, bytes) = (frames(), encoded(&frames()));
    for piece in (1..40).chain([100, 5000, 100_000]) {
        assert_eq!(decoded(6000, &bytes, piece).unwrap(), frames, "{piece}");
    }
}

/// Nodes of the same protocol version understand each other by these bytes.
#[test]
fn golden_bytes() {
    let hex = |frame: Frame| -> String {
        let bytes = encoded(&[frame]);
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    };
    let body = Bytes::from_static(b"hi");
    let call = Frame::Call {
        id: 0x0102,
        kind: Kind(3),
        timeout_ms: 5,
        body: body.clone(),
    };
    assert_eq!(
        hex(call),
        "11000000010201000000000000030005000000".to_owned() + "6869"
    );
    assert_eq!(
        hex(Frame::Answer { id: 1, body }),
        "0b0000000401000000000000006869"
    );
    let refusal = Refusal::NoHandler {
        lane: Lane::Peek,
        kind: Kind(7),
    };
    assert_eq!(
        hex(Frame::Refused { id: 1, refusal }),
        "0d000000050100000000000000".to_owned() + "01020700"
    );
    assert_eq!(hex(Frame::End), "0100000008");
}

#[test]
fn a_frame_in_one_piece_is_not_copied() {
    let frame = Frame::Item {
        body: Bytes::from(vec![1; 100]),
    };
    let bytes = encoded(&[frame]);
    let mut decoder = Decoder::new(200);
    decoder.feed(bytes.clone());
    let Ok(Some(Frame::Item { body })) = decoder.next() else {
        panic!("an item");
    };
    assert!(bytes.as_ptr_range().contains(&body.as_ptr()));
}

#[test]
fn lengths_are_checked_before_anything_is_kept() {
    for piece in [1, 3, 4, 100] {
        let claims = Bytes::from_static(&[0xff, 0xff, 0xff, 0x7f, 1, 2, 3]);
        let result = decoded(1000, &claims, piece);
        assert!(
            matches!(result, Err(FrameError::TooLong { limit: 1000, .. })),
            "{result:?}"
        );
    }
    // A long frame that is allowed, of which little comes: nothing is reserved for the rest.
    let mut decoder = Decoder::new(1 << 30);
    decoder.feed(Bytes::from_static(&[0, 0, 0, 0x20, 7]));
    assert_eq!(decoder.next(), Ok(None));
    assert!(decoder.partial.capacity() < 4096);
}

#[test]
fn what_is_cut_or_unknown_is_an_error() {
    for frame in frames() {
        let whole = encoded(std::slice::from_ref(&frame));
        let fields = whole.len() - 4;
        for kept in 0..fields {
            let mut bytes = BytesMut::new();
            bytes.put_u32_le(kept as u32);
            bytes.extend_from_slice(&whole[4..4 + kept]);
            // Never the frame itself, never a panic: an error, or a shorter body.
            let read = decoded(6000, &bytes.freeze(), 7);
            assert_ne!(read.as_ref().ok().and_then(|f| f.first()), Some(&frame));
        }
    }
    let unknown = |bytes: &'static [u8]| decoded(100, &Bytes::from_static(bytes), 100);
    assert_eq!(unknown(&[1, 0, 0, 0, 99]), Err(FrameError::Tag(99)));
    assert_eq!(unknown(&[2, 0, 0, 0, 9, 77]), Err(FrameError::Refusal(77)));
    assert_eq!(unknown(&[0, 0, 0, 0]), Err(FrameError::Short));
}

/// Random bytes, and real frames with random damage: errors or frames, never a panic, and never more than was sent.
#[test]
fn noise_is_survived() {
    let rng = SimRng::new(0x6d65_7368);
    let good = encoded(&frames());
    for round in 0..20_000 {
        let mut bytes = match round % 2 {
            0 => {
                let mut noise = vec![0; rng.below(200) as usize];
                rng.fill(&mut noise);
                // Mostly plausible lengths, so that tags and fields are reached.
                if let Some(head) = noise.first_chunk_mut::<4>() {
                    *head = (rng.below(40) as u32).to_le_bytes();
                }
                noise
            }
            _ => good.to_vec(),
        };
        for _ in 0..rng.below(4) {
            if !bytes.is_empty() {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        let bytes = Bytes::from(bytes);
        let piece = 1 + rng.below(64) as usize;
        if let Ok(frames) = decoded(6000, &bytes, piece) {
            let again = encoded(&frames);
            assert!(again.len() <= bytes.len() + 2 * frames.len() * TEXT_BYTES_MAX);
        }
    }
}
