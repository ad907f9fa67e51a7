//! `sulku policy apply` and what comes after it, as an operator types them: one operator, two operators, and what is refused.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod desk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use desk::{Desk, GOOD};

#[test]
fn one_operator_puts_a_policy_in_force() {
    let desk = Desk::new(1);
    let said = desk.ok(&Desk::apply("onni"));
    assert!(said.contains("widens:\n+ THL/1234/14.02.00/2026: is new, GRANTED") && said.contains("revision 1 counts, signed by onni"), "{said}");
    assert_eq!(desk.revisions(), ["000001.revision"]);
    assert_eq!(desk.ok("show 1 permits/statins.toml --store store --operators gateway.toml"), GOOD);

    desk.permit("asthma");
    let said = desk.ok(&Desk::apply("aino"));
    assert!(said.contains("\n+ THL/asthma/2026: is new") && !said.contains("THL/1234") && said.contains("revision 2 counts"), "{said}");
    let log = desk.log();
    assert!(log[0].starts_with("2 ") && log[0].ends_with("aino in force because") && log[1].ends_with("onni was in force because"), "{log:?}");
    let shown = desk.ok("show 2 --store store --operators gateway.toml");
    assert!(shown.starts_with("sulku policy revision 1\nnumber 2\nprevious ") && shown.contains("signed by aino, verified"), "{shown}");
    // A remark changes what is signed, and nothing for anybody.
    desk.write("policies/permits/asthma.toml", &(fs::read_to_string(desk.file("policies/permits/asthma.toml")).unwrap() + "# a remark\n"));
    let said = desk.ok(&Desk::apply("aino"));
    assert!(said.contains("nobody gains or loses anything\nchanged permits/asthma.toml\n"), "{said}");
    // Nothing is left lying about.
    assert_eq!(fs::read_dir(desk.file("store/objects")).unwrap().count(), 3);
}

#[test]
fn the_second_operator_is_told_what_to_type_and_makes_it_count() {
    let desk = Desk::new(2);
    let said = desk.ok(&Desk::apply("onni"));
    let command = said.lines().last().unwrap().trim();
    assert!(said.contains("1 of 2 operators have signed it: onni"), "{said}");
    assert!(desk.log()[0].ends_with("onni waits because"), "{:?}", desk.log());
    assert!(desk.refused(&Desk::approve(1, "onni")).contains("onni has signed revision 1 already"));
    let command = command.strip_prefix("sulku policy ").unwrap().replace("OPERATOR", "aino").replace("FILE", "aino.key");
    let said = desk.ok(&format!("{command} --yes"));
    assert!(
        said.contains("by onni: because\nwidens:\n+ THL/1234/14.02.00/2026: is new") && said.contains("counts, signed by onni and aino"),
        "{said}"
    );
    assert!(desk.log()[0].ends_with("onni, aino in force because"), "{:?}", desk.log());
}

#[test]
fn while_a_revision_waits_only_what_narrows_goes_past_it() {
    let desk = Desk::new(2);
    desk.permit("asthma");
    desk.ok(&Desk::apply("onni"));
    desk.ok(&Desk::approve(1, "aino"));
    desk.permit("third");
    desk.ok(&Desk::apply("onni"));
    // Another that widens has to wait.
    desk.permit("fourth");
    let said = desk.refused(&Desk::apply("elli"));
    assert!(said.contains("sulku policy approve 2") && said.contains("sulku policy withdraw 2"), "{said}");
    // One that takes away does not.
    for name in ["third", "fourth", "asthma"] {
        fs::remove_file(desk.file(&format!("policies/permits/{name}.toml"))).unwrap();
    }
    let said = desk.ok(&Desk::apply("elli"));
    assert!(said.contains("one operator's signature is enough") && said.contains("revision 3 counts, signed by elli"), "{said}");
    assert!(said.contains("revision 2, which waited for a signature, will not count any more"), "{said}");
    // And what waited can't come back over it.
    let said = desk.refused(&Desk::approve(2, "aino"));
    assert!(said.contains("follow another than 3"), "{said}");
    assert!(desk.log()[0].ends_with("elli in force because") && desk.log()[1].ends_with("passed over because"), "{:?}", desk.log());
}

#[test]
fn halt_needs_one_operator_and_its_end_two() {
    let desk = Desk::new(2);
    desk.ok(&Desk::apply("onni"));
    desk.ok(&Desk::approve(1, "aino"));
    desk.write("policies/halt.toml", "schema = 1\n[halt]\nreason = \"fire\"\n");
    assert!(desk.ok(&Desk::apply("elli")).contains("revision 2 counts, signed by elli"));
    fs::remove_file(desk.file("policies/halt.toml")).unwrap();
    assert!(desk.ok(&Desk::apply("elli")).contains("revision 3 does not count yet"));
    assert!(desk.ok(&Desk::approve(3, "onni")).contains("revision 3 counts, signed by elli and onni"));
}

#[test]
fn a_revision_that_waits_can_be_taken_back_and_one_that_counts_can_not() {
    let desk = Desk::new(2);
    desk.ok(&Desk::apply("onni"));
    desk.ok(&Desk::approve(1, "aino"));
    let place = "--store store --operators gateway.toml";
    assert!(desk.refused(&format!("withdraw 1 {place}")).contains("does not wait"));
    desk.permit("asthma");
    desk.ok(&Desk::apply("onni"));
    desk.ok(&format!("withdraw 2 {place}"));
    assert_eq!(desk.revisions(), ["000001.revision", "000002.withdrawn"]);
    // A number is given once.
    assert!(desk.ok(&Desk::apply("onni")).contains("revision 3 does not count yet"));
}

#[test]
fn nothing_wrong_is_signed() {
    let desk = Desk::new(1);
    let apply = Desk::apply("onni");
    desk.write("policies/permits/statins.toml", &GOOD.replace("schema", "schema_"));
    let said = desk.refused(&apply);
    assert!(
        said.contains("[policies/permits/statins.toml:1:1]") && said.contains("did you mean schema?") && said.contains("nothing is done"),
        "{said}"
    );
    let case = "[[test]]\nname = \"Maija works in 2030\"\nperson = \"maija\"\nat = 2030-11-23T10:00:00\nfrom = \"192.0.2.1\"\ndoes = \"connect\"\nexpect = \"allow\"\n";
    desk.write("policies/permits/statins.toml", &format!("{GOOD}\n{case}"));
    let said = desk.refused(&apply);
    assert!(said.contains("Maija works in 2030"), "{said}");
    desk.write("policies/permits/statins.toml", GOOD);
    desk.write("policies/permits/copy.toml", GOOD);
    assert!(desk.refused(&apply).contains("is the id of the permit at"));
    fs::rename(desk.file("policies/permits/copy.toml"), desk.file("policies/permits/my copy.toml")).unwrap();
    assert!(desk.refused(&apply).contains("rename it"));
    fs::remove_file(desk.file("policies/permits/my copy.toml")).unwrap();
    fs::write(desk.file("policies/permits/latin.toml"), b"# \xe4\n").unwrap();
    assert!(desk.refused(&apply).contains("UTF-8"));
    fs::remove_file(desk.file("policies/permits/latin.toml")).unwrap();
    assert!(desk.refused(&apply.replace("because", "")).contains("line 6: the reason"));
    assert!(desk.refused(&apply.replace(" --yes", "")).contains("give --yes"));
    assert!(desk.refused(&apply.replace("--store store", "--store elsewhere")).contains("elsewhere is no folder"));
    assert!(desk.refused(&format!("{apply} --policies store")).contains("no folder permits/"));
    assert_eq!(desk.revisions(), [""; 0], "nothing of it has left a trace");
    desk.ok(&apply);
    assert!(desk.refused(&apply).contains("nothing has changed: revision 1"));
}

#[test]
fn only_an_operators_own_well_kept_key_signs() {
    let desk = Desk::new(1);
    let apply = Desk::apply("onni");
    assert!(desk.refused(&apply.replace("onni.key", "aino.key")).contains("not the key that the configuration has for onni"));
    assert!(desk.refused(&apply.replace("--as onni", "--as erkki")).contains("for erkki"));
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(desk.file("onni.key"), fs::Permissions::from_mode(mode)).unwrap();
        assert!(desk.refused(&apply).contains("chmod go= onni.key"), "{mode:o}");
    }
    fs::set_permissions(desk.file("onni.key"), fs::Permissions::from_mode(0o400)).unwrap();
    let operators = fs::read_to_string(desk.file("gateway.toml")).unwrap();
    desk.write("gateway.toml", &operators.replace("signatures = 1", "signatures = 4"));
    assert!(desk.refused(&apply).contains("4 signatures are wanted of 3 operators"));
    desk.write("gateway.toml", &operators.replace("signatures = 1", "signature = 1"));
    assert!(desk.refused(&apply).contains("gateway.toml"));
    desk.write("gateway.toml", &operators);
    desk.ok(&apply);
}

#[test]
fn nothing_is_added_to_a_store_that_was_tampered_with() {
    let desk = Desk::new(1);
    let apply = Desk::apply("onni");
    desk.ok(&apply);
    desk.permit("asthma");
    let (file, good) = (desk.file("store/revisions/000001.revision"), fs::read_to_string(desk.file("store/revisions/000001.revision")).unwrap());
    for (bad, why) in [
        (good.replace("because", "becausE"), "the revision was changed"),
        (good.replace("number 1\n", "number 2\n"), "says that it is number 2"),
        (good.replace("signature onni", "signature erkki"), "signed by erkki"),
        (good.replace("previous none", "previous"), "line 3"),
        (good.lines().next().unwrap().to_owned(), "line 1"),
    ] {
        fs::write(&file, bad).unwrap();
        let said = desk.refused(&apply);
        assert!(said.contains("can't be verified") && said.contains(why), "{said}");
        assert!(!desk.sulku("log --store store --operators gateway.toml").status.success(), "log says so, too");
    }
    fs::write(&file, &good).unwrap();
    let object = fs::read_dir(desk.file("store/objects")).unwrap().next().unwrap().unwrap().path();
    fs::write(&object, GOOD.replace("maija", "matti")).unwrap();
    let said = desk.refused(&apply);
    assert!(said.contains("permits/statins.toml is not what was signed"), "{said}");
    fs::write(&object, GOOD).unwrap();
    desk.ok(&apply);
}

/// Who leaves takes nothing back: her last revision is signed again by who stays.
#[test]
fn when_an_operator_leaves_another_signs_her_last_revision() {
    let desk = Desk::new(1);
    desk.ok(&Desk::apply("onni"));
    let operators = fs::read_to_string(desk.file("gateway.toml")).unwrap();
    let (head, rest) = operators.split_once("[[operator]]\nid = \"onni\"").unwrap();
    let (_, rest) = rest.split_once("[[operator]]").unwrap();
    desk.write("gateway.toml", &format!("{head}[[operator]]{rest}"));
    desk.permit("asthma");
    assert!(desk.refused(&Desk::apply("aino")).contains("signed by onni"));
    assert!(desk.ok(&Desk::approve(1, "aino")).contains("revision 1 counts, signed by aino"));
    desk.ok(&Desk::apply("aino"));
}

#[test]
fn two_who_write_at_once_do_not_get_in_each_others_way() {
    let desk = Desk::new(1);
    desk.ok(&Desk::apply("onni"));
    let folder = fs::File::open(desk.file("store/revisions")).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    desk.permit("asthma");
    assert!(desk.refused(&Desk::apply("onni")).contains("is being written by another command"));
    drop(folder);
    desk.ok(&Desk::apply("onni"));
}

/// What the auditor's page says: a text editor, base64 and openssl are all it takes.
#[test]
fn a_revision_in_the_store_is_verified_with_openssl_alone() {
    let desk = Desk::new(1);
    desk.ok(&Desk::apply("onni"));
    let shell = |script: &str| Command::new("sh").args(["-ec", script]).current_dir(desk.file("")).output().unwrap();
    let script = "sed '/^$/,$d' store/revisions/000001.revision > text
        sed -n 's/^signature onni //p' store/revisions/000001.revision | base64 -d > signature
        openssl x509 -in onni.pem -noout -pubkey > public
        openssl dgst -sha256 -verify public -signature signature text";
    let verified = shell(script);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let changed = shell(&script.replace("> text", "| sed s/because/becausE/ > text"));
    assert!(!changed.status.success(), "the control: a changed one is not");
    let digest = shell("sha256sum text");
    assert!(!digest.stdout.is_empty());
}

#[test]
fn a_key_is_told_from_a_certificate_or_a_key_file() {
    let desk = Desk::new(1);
    let of_certificate = desk.ok("key --as onni --certificate onni.pem");
    assert!(
        of_certificate.contains("id = \"onni\"\ncertificate = { uri = \"spiffe://spe.example.fi/operator/onni\" }\nkey = \""),
        "{of_certificate}"
    );
    let key = |text: &str| text.lines().find(|line| line.starts_with("key = ")).unwrap().to_owned();
    assert_eq!(key(&of_certificate), key(&desk.ok("key --key onni.key")));
    let rsa = Command::new("openssl").args("genrsa -out rsa.key 2048".split(' ')).current_dir(desk.file("")).output().unwrap();
    assert!(rsa.status.success() && Path::new(&desk.file("rsa.key")).exists());
    fs::set_permissions(desk.file("rsa.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(desk.refused("key --key rsa.key").contains("RSA, which signs no revisions"));
}
