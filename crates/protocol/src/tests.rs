use proptest::prelude::*;

use crate::*;

fn decode_all<M: Message>(bytes: &[u8], piece: usize) -> Result<Vec<M>, FrameError> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for bytes in bytes.chunks(piece.max(1)) {
        decoder.feed(bytes);
        while let Some(frame) = decoder.next()? {
            frames.push(frame);
        }
    }
    decoder.finish()?;
    Ok(frames)
}

fn hello() -> Ask {
    let purpose = Purpose::Connect {
        permit: Some("DEMO/1/2026".parse().expect("an id")),
        command: Some(vec!["wc".into(), "-l".into()]),
        term: "xterm".into(),
        columns: 80,
        rows: 24,
        stay: Stay::TakesUp,
    };
    Ask::Hello(HelloFrame { version: VERSION, client: "sulku 0.1.0".into(), purpose })
}

fn asks() -> impl Strategy<Value = Ask> {
    prop_oneof![
        Just(hello()),
        proptest::collection::vec(any::<u8>(), 1..200).prop_map(Ask::Input),
        (1_u16.., 1_u16..).prop_map(|(columns, rows)| Ask::Resize { columns, rows }),
        (0..Signal::ALL.len()).prop_map(|place| Ask::Signal(Signal::ALL[place])),
        any::<u32>().prop_map(Ask::Shown),
        Just(Ask::Leave),
        Just(Ask::Detach),
    ]
}

fn notices() -> impl Strategy<Value = NoticeKind> {
    prop_oneof![Just(NoticeKind::Frozen), Just(NoticeKind::Resumed), Just(NoticeKind::Ending)]
}

#[test]
fn a_client_of_before_asks_for_a_session_that_ends_with_its_connection() {
    let hello = r#"{"connect":{"permit":null,"command":null,"term":"xterm","columns":80,"rows":24}}"#;
    let purpose: Purpose = serde_json::from_str(hello).expect("a purpose");
    assert!(matches!(purpose, Purpose::Connect { stay: Stay::Ends, .. }));
    assert_eq!(serde_json::to_string(&purpose).expect("JSON"), hello);
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_are_cut(frames in proptest::collection::vec(asks(), 0..12), piece in 1_usize..300) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| encode(frame, &mut bytes).expect("short"));
        prop_assert_eq!(decode_all::<Ask>(&bytes, piece), Ok(frames));
    }

    #[test]
    fn what_was_taken_comes_out_as_it_went_in(taken in any::<u32>(), piece in 1_usize..9) {
        let mut bytes = Vec::new();
        encode(&Tell::Taken(taken), &mut bytes).expect("short");
        prop_assert_eq!(decode_all::<Tell>(&bytes, piece), Ok(vec![Tell::Taken(taken)]));
    }

    #[test]
    fn a_notice_comes_out_as_it_went_in(text in "\\PC{0,200}", kind in notices()) {
        let notice = Tell::Notice(crate::NoticeFrame { kind, text });
        let mut bytes = Vec::new();
        encode(&notice, &mut bytes).expect("short");
        prop_assert_eq!(decode_all::<Tell>(&bytes, 7), Ok(vec![notice]));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50) {
        let _ = decode_all::<Ask>(&bytes, piece);
        let _ = decode_all::<Tell>(&bytes, piece);
    }

    #[test]
    fn a_cut_stream_is_noticed(frames in proptest::collection::vec(asks(), 1..4), cut in 1_usize..5) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| encode(frame, &mut bytes).expect("short"));
        let whole = bytes.len();
        bytes.truncate(whole - cut);
        let ended = decode_all::<Ask>(&bytes, 7);
        prop_assert!(ended == Err(FrameError::Truncated) || ended.is_ok_and(|seen| seen.len() < frames.len()));
    }
}

#[test]
fn a_length_beyond_the_bound_is_refused_before_its_payload_comes() {
    let mut decoder = Decoder::<Ask>::default();
    decoder.feed(&[0x02, 0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(decoder.next(), Err(FrameError::TooLong { kind: 2, length: 0x7fff_ffff }));
    assert_eq!(
        encode(&Ask::Input(vec![0; PAYLOAD_BYTES_MAX + 1]), &mut Vec::new()),
        Err(FrameError::TooLong { kind: 2, length: PAYLOAD_BYTES_MAX + 1 })
    );
}

#[test]
fn frames_of_the_other_direction_are_refused() {
    let mut bytes = Vec::new();
    encode(&Tell::Output(b"x".to_vec()), &mut bytes).expect("short");
    assert_eq!(decode_all::<Ask>(&bytes, 100), Err(FrameError::Kind { kind: 0x83 }));
    assert!(decode_all::<Tell>(&bytes, 100).is_ok());
}

#[test]
fn an_unknown_key_in_a_hello_is_refused() {
    let payload = br#"{"version":1,"client":"x","purpose":"list-sessions","admin":true}"#;
    assert_eq!(Ask::from_parts(1, payload), Err(FrameError::Payload { kind: 1 }));
    let payload = br#"{"version":1,"client":"x","purpose":"list-sessions"}"#;
    assert!(Ask::from_parts(1, payload).is_ok());
}
