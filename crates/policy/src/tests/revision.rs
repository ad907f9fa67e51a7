//! The text of a revision, its signatures, and the keys that make them.

use super::{PERMIT, draft, key, operators, tree};
use crate::{
    Digest, FILES_MAX, FileLine, KeyError, Operator, OperatorKey, Operators, OperatorsError, Revision, Signed, TreePath, Unapproved, verify,
};

fn text() -> String {
    let tree = tree(&[(PERMIT, "id"), ("halt.toml", "")]);
    Revision::new(draft(12, Some(Digest::of(b"before")), &tree)).expect("a revision").text().to_owned()
}

fn parse(text: &str) -> Result<Signed, String> {
    Signed::parse(text.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn a_revision_is_the_text_that_the_design_shows() {
    let empty = Digest::of(b"");
    let expected = format!(
        "sulku policy revision 1\nnumber 12\nprevious {}\nmade 2026-11-25T01:00:00Z\nby onni\nreason Maija joins the statin study\n\
         file {empty} 0 halt.toml\nfile {} 2 permits/statins.toml\n",
        Digest::of(b"before"),
        Digest::of(b"id"),
    );
    assert_eq!(text(), expected);
    let signed = parse(&format!("{expected}\nsignature onni AQID\n")).expect("a revision");
    assert_eq!((signed.revision.number(), signed.revision.files().len(), signed.signatures[0].signature.as_slice()), (12, 2, &[1, 2, 3][..]));
    assert_eq!(signed.revision.digest(), Digest::of(expected.as_bytes()), "the digest is over what is signed and nothing else");
    assert_eq!(signed.render(), format!("{expected}\nsignature onni AQID\n"));
}

#[test]
fn what_is_not_written_exactly_so_is_no_revision() {
    let good = format!("{}\n", text());
    parse(&good).expect("the control: unchanged it is one");
    let empty = Digest::of(b"");
    let halt = format!("file {empty} 0 halt.toml\n");
    for (from, to, line, why) in [
        ("revision 1", "revision 2", 1, "does not begin with"),
        ("number 12", "number 012", 2, "not one of 1 to"),
        ("number 12", "number 0", 2, "not one of 1 to"),
        ("number 12", "number 1000000", 2, "not one of 1 to"),
        ("number 12\n", "", 2, "here belongs \"number …\""),
        ("previous ", "previous A", 3, "not a SHA-256"),
        ("01:00:00Z", "01:00:00.5Z", 4, "no time"),
        ("01:00:00Z", "02:00:00+01:00", 4, "no time"),
        ("by onni", "by onni the first", 5, "is not"),
        ("by onni", "by ../onni", 5, "is not"),
        ("reason Maija", "reason  Maija", 6, "the reason"),
        ("reason Maija", "reason \u{202e}Maija", 6, "the reason"),
        ("reason Maija", "reason Mai\rja", 6, "the reason"),
        ("0 halt.toml", "00 halt.toml", 7, "no length"),
        ("0 halt.toml", "0 permits/../halt.toml", 7, "is no file of a policy"),
        ("permits/statins", "secrets/statins", 8, "is no file of a policy"),
        ("permits/statins.toml", "permits/statins.toml\r", 8, "is no file of a policy"),
        ("2 permits", "262145 permits", 8, "at most 262144"),
        (halt.as_str(), halt.repeat(2).as_str(), 8, "twice or out of order"),
    ] {
        assert_eq!(good.matches(from).count(), 1, "{from:?} is there once");
        let error = parse(&good.replace(from, to)).expect_err(to);
        assert!(error.starts_with(&format!("line {line}: ")) && error.contains(why) && error.contains("; "), "{to:?}: {error}");
    }
    let unsigned = parse(text().as_str()).expect_err("without the empty line");
    assert!(unsigned.contains("no empty line"), "{unsigned}");
    for bad in
        ["signature onni", "signature onni AQID=", "signature onni AQI", "signature onni AR==", "signature o/../i AQID", "\nsignature onni AQID"]
    {
        let error = parse(&format!("{good}{bad}\n")).expect_err(bad);
        assert!(error.starts_with("line 10: "), "{bad}: {error}");
    }
    assert!(parse(&format!("{good}signature onni AQID")).expect_err("its end is cut off").contains("no end"));
    assert!(parse(&format!("{good}{}", "signature onni AQID\n".repeat(17))).expect_err("too many").contains("more than 16"));
}

#[test]
fn only_files_of_a_policy_have_a_path() {
    for good in ["halt.toml", "permits/a.toml", "authorities/valtori-2.toml", "calendars/x.y_Z.toml"] {
        good.parse::<TreePath>().expect(good);
    }
    for bad in [
        "",
        "permits",
        "permits/",
        "permits/.toml",
        "permits/.a.toml",
        "permits/a.tom",
        "permits//a.toml",
        "/permits/a.toml",
        "permits/a/b.toml",
        "permits/a..toml",
        "Permits/a.toml",
        "./halt.toml",
        "permits/halt",
        "permits/a b.toml",
        "permits/ä.toml",
        "permits/a\0.toml",
    ] {
        bad.parse::<TreePath>().expect_err(bad);
    }
    format!("permits/{}.toml", "a".repeat(96)).parse::<TreePath>().expect_err("too long");
}

#[test]
fn there_is_a_bound_on_files() {
    let files = |count: usize| {
        let line = |number| FileLine { sha256: Digest::of(b""), bytes: 0, path: format!("permits/{number}.toml").parse().expect("a path") };
        Revision::new(crate::Draft { files: (0..count).map(line).collect(), ..draft(1, None, &tree(&[])) })
    };
    assert_eq!(files(FILES_MAX).expect("as many as there may be").files().len(), FILES_MAX);
    assert!(files(FILES_MAX + 1).expect_err("one more").to_string().contains("more than 20000 files"));
    let heavy = |number| FileLine { sha256: Digest::of(b""), bytes: 262_144, path: format!("permits/{number}.toml").parse().expect("a path") };
    let heavy = crate::Draft { files: (0..1025).map(heavy).collect(), ..draft(1, None, &tree(&[])) };
    assert!(Revision::new(heavy).expect_err("too heavy together").to_string().contains("more than 268435456 bytes"));
}

#[test]
fn two_signatures_of_one_operator_count_once() {
    let revision = Revision::new(draft(1, None, &tree(&[]))).expect("a revision");
    let line = |name: &str, number| revision.sign(name.parse().expect("an id"), &key(number));
    let two = operators(&["onni", "aino"], 2);
    let judge = |signatures: Vec<_>, operators: &Operators| verify(&Signed { revision: revision.clone(), signatures }, operators);

    let approved = judge(vec![line("onni", 1), line("aino", 2)], &two).expect("the control: two operators are two");
    assert_eq!(approved.approvers().iter().map(ToString::to_string).collect::<Vec<_>>(), ["onni", "aino"]);
    assert!(matches!(judge(vec![line("onni", 1), line("onni", 1)], &two), Err(Unapproved::Pending { needed: 2, .. })));
    // Two keys of one operator are one operator.
    let onni_twice = [("onni", 1), ("onni", 3), ("aino", 2)]
        .map(|(name, number)| Operator { id: name.parse().expect("an id"), key: key(number).public().clone() });
    let onni_twice = Operators::new(onni_twice.into(), 2).expect("operators");
    assert!(matches!(judge(vec![line("onni", 1), line("onni", 3)], &onni_twice), Err(Unapproved::Pending { .. })));
    let _ = judge(vec![line("onni", 3), line("aino", 2)], &onni_twice).expect("either of her keys counts");
}

#[test]
fn a_signature_counts_only_under_its_own_name_and_key() {
    let revision = Revision::new(draft(1, None, &tree(&[]))).expect("a revision");
    let line = |name: &str, number| revision.sign(name.parse().expect("an id"), &key(number));
    let one = operators(&["onni", "aino"], 1);
    let judge = |signatures: Vec<_>| verify(&Signed { revision: revision.clone(), signatures }, &one);
    let _ = judge(vec![line("onni", 1)]).expect("the control");
    assert!(matches!(judge(vec![line("onni", 2)]), Err(Unapproved::Forged { .. })), "another operator's key");
    assert!(matches!(judge(vec![line("aino", 2), line("onni", 9)]), Err(Unapproved::Forged { .. })), "one good line does not help a forged one");
    assert!(matches!(judge(vec![line("erkki", 9)]), Err(Unapproved::Strangers { .. })));
    assert!(matches!(judge(Vec::new()), Err(Unapproved::Strangers { .. })));
    let _ = judge(vec![line("erkki", 9), line("aino", 2)]).expect("a stranger's line says nothing");
}

#[test]
fn one_key_is_one_operators() {
    let shared = ["onni", "aino"].map(|name| Operator { id: name.parse().expect("an id"), key: key(1).public().clone() });
    assert!(matches!(Operators::new(shared.into(), 1), Err(OperatorsError::SharedKey { .. })));
    assert!(matches!(Operators::new(operators(&["onni"], 1).iter().cloned().collect(), 2), Err(OperatorsError::Needed { needed: 2, operators: 1 })));
    assert!(matches!(Operators::new(operators(&["onni"], 1).iter().cloned().collect(), 0), Err(OperatorsError::Needed { .. })));
}

#[test]
fn a_public_key_has_one_text() {
    let text = key(1).public().to_string();
    assert_eq!(text.parse::<OperatorKey>().expect("a key"), *key(1).public());
    for bad in ["", "AQID", &format!("{text}AAAA"), &text[4..], &text[..text.len() - 4]] {
        assert_eq!(bad.parse::<OperatorKey>().expect_err(bad), KeyError::Public);
    }
}
