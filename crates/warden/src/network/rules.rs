//! The router's one ruleset: fixed, readable, the same for every session. Sessions are elements of its map and set, never rules.
//!
//! It is installed with `nft` through the typed schema of the `nftables` crate, read back and compared. It never holds a name or a
//! text that came from a permit.

use std::borrow::Cow;
use std::io::Write as _;
use std::process::{Command, Stdio};

use nftables::batch::Batch;
use nftables::expr::{CT, Expression, Map as MapExpression, Meta, MetaKey, NamedExpression, Payload, PayloadField, SetItem};
use nftables::schema::{Chain, Map, NfListObject, NfObject, Nftables, Rule, Set, SetFlag, SetType, SetTypeValue, Table};
use nftables::stmt::{JumpTarget, Log, Mangle, Match, Operator, Reject, RejectType, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};
use sulku_audit::WhyDenied;
use sulku_audit::merkle::sha256;

/// The nft programme, by its whole path: the environment has no say in what runs as root.
pub const NFT: &str = "/usr/sbin/nft";
pub(super) const TABLE: &str = "sulku";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const ALLOWED: &str = "allowed";
/// The NFLOG group to which denied packets are copied.
pub(super) const LOG_GROUP: u16 = 5;
/// Bytes of a denied packet that are copied: its IP and transport headers.
const LOG_BYTES: u32 = 64;
/// Sessions that the map holds.
const SESSIONS_MAX: u32 = 4_096;
/// Destinations that the set holds, of all sessions together.
const ALLOWED_MAX: u32 = 262_144;
const CELLS: &str = "cell*";
const UPLINKS: &str = "up-*";

/// Why the ruleset is not in force.
#[derive(Debug, thiserror::Error)]
pub enum RulesetError {
    /// nft could not be run.
    #[error("{NFT} could not be run; install the package nftables")]
    Nft(#[source] std::io::Error),
    /// nft refused.
    #[error("nft refused the ruleset: {0}")]
    Refused(String),
    /// What nft reports could not be read.
    #[error("nft's listing could not be read")]
    Listing(#[from] serde_json::Error),
    /// What is in force is not what was installed.
    #[error("the ruleset read back differs from the one installed: {0}")]
    Differs(String),
}

/// SHA-256 of the ruleset's objects as JSON, one a line, in hexadecimal.
///
/// # Errors
/// The ruleset can't be written as JSON.
pub fn ruleset_digest() -> Result<String, RulesetError> {
    Ok(sha256(&[comparable(&ruleset())?.join("\n").as_bytes()]).to_string())
}

/// Why a packet was denied, by the words with which its rule logs it.
pub(super) fn why(prefix: &[u8]) -> WhyDenied {
    match prefix.split(|byte| *byte == 0).next() {
        Some(b"spoofed") => WhyDenied::Spoofed,
        _ => WhyDenied::NotListed,
    }
}

/// Installs the ruleset in the network namespace in which this runs, reads it back and compares.
pub(super) fn install() -> Result<(), RulesetError> {
    let ruleset = ruleset();
    nft(&["-j", "-f", "-"], &serde_json::to_vec(&ruleset)?)?;
    let listed: Nftables<'_> = serde_json::from_slice(&nft(&["-j", "list", "table", "inet", TABLE], &[])?)?;
    let wanted = comparable(&ruleset)?;
    let found = comparable(&listed)?;
    match wanted.iter().zip(&found).find(|(wanted, found)| wanted != found) {
        Some((wanted, found)) => Err(RulesetError::Differs(format!("{wanted} became {found}"))),
        None if wanted.len() != found.len() => Err(RulesetError::Differs(format!("{} objects became {}", wanted.len(), found.len()))),
        None => Ok(()),
    }
}

/// Runs nft with nothing of this process's environment, and takes its complaints instead of letting them go to ours.
fn nft(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, RulesetError> {
    let piped = || Stdio::piped();
    let mut child = Command::new(NFT)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(piped())
        .stdout(piped())
        .stderr(piped())
        .spawn()
        .map_err(RulesetError::Nft)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).map_err(RulesetError::Nft)?;
    }
    let output = child.wait_with_output().map_err(RulesetError::Nft)?;
    if output.status.success() { Ok(output.stdout) } else { Err(RulesetError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned())) }
}

/// The objects as JSON values without what the kernel adds (handles) and without the version line, in one order.
fn comparable(ruleset: &Nftables<'_>) -> Result<Vec<String>, serde_json::Error> {
    let mut objects = Vec::new();
    for object in ruleset.objects.iter() {
        let object = match object {
            NfObject::ListObject(object) => serde_json::to_value(object)?,
            NfObject::CmdObject(nftables::schema::NfCmd::Add(object)) => serde_json::to_value(object)?,
            NfObject::CmdObject(other) => serde_json::to_value(other)?,
        };
        let Some((kind, mut body)) = object.as_object().and_then(|map| map.iter().next()).map(|(kind, body)| (kind.clone(), body.clone())) else {
            continue;
        };
        if kind != "metainfo" {
            if let Some(fields) = body.as_object_mut() {
                fields.remove("handle");
                // Flags are a set, which has no order.
                if let Some(flags) = fields.get_mut("flags").and_then(serde_json::Value::as_array_mut) {
                    flags.sort_by_key(ToString::to_string);
                }
            }
            // Rules keep their order, which is their meaning; the rest is sorted before them.
            objects.push((kind == "rule", if kind == "rule" { String::new() } else { body.to_string() }, format!("{kind} {body}")));
        }
    }
    objects.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    Ok(objects.into_iter().map(|(_, _, text)| text).collect())
}

type Statements = Vec<Statement<'static>>;
/// Where a chain hangs, in what order, and what becomes of a packet that no rule has decided on.
type Base = (NfChainType, NfHook, i32, NfChainPolicy);

fn ruleset() -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None }));
    batch.add(NfListObject::Map(Box::new(Map {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: SESSIONS.into(),
        set_type: types(&[SetType::Ifname, SetType::Ipv4Addr]),
        map: SetTypeValue::Single(SetType::Mark),
        flags: Some([SetFlag::Timeout].into()),
        size: Some(SESSIONS_MAX),
        ..Map::default()
    })));
    batch.add(NfListObject::Set(Box::new(Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: ALLOWED.into(),
        set_type: types(&[SetType::Mark, SetType::Ipv4Addr, SetType::InetProto, SetType::InetService]),
        flags: Some([SetFlag::Interval, SetFlag::Timeout].into()),
        size: Some(ALLOWED_MAX),
        ..Set::default()
    })));
    use NfChainPolicy::{Accept, Drop};
    use NfChainType::{Filter, NAT};
    let chains: [(&str, Option<Base>, Vec<Statements>); 9] = [
        // Every packet of a cell gets its session's mark by where it comes from and as whom; without a live session it ends here. Then it
        // must be to a listed destination, every packet and not only a flow's first. Before routing, so that what has no route
        // has a name too.
        ("prerouting", Some((Filter, NfHook::Prerouting, -150, Accept)), vec![vec![matches(meta(MetaKey::Iifname), CELLS), goto("leaving")]]),
        (
            "leaving",
            None,
            vec![
                vec![mark_from(MetaKey::Iifname, "saddr")],
                vec![unmarked(Operator::EQ), log("spoofed"), Statement::Drop(None)],
                vec![listed(), set(ct("mark"), meta(MetaKey::Mark)), Statement::Accept(None)],
                vec![goto("deny")],
            ],
        ),
        // Nothing of the router itself can be reached.
        ("input", Some((Filter, NfHook::Input, 0, Drop)), vec![vec![matches(meta(MetaKey::Iifname), CELLS), goto("deny")]]),
        // The router itself says nothing but "no".
        (
            "output",
            Some((Filter, NfHook::Output, 0, Drop)),
            vec![
                vec![matches(meta(MetaKey::Oifname), CELLS), is_in(payload("tcp", "flags"), text("rst")), Statement::Accept(None)],
                vec![
                    matches(meta(MetaKey::Oifname), CELLS),
                    matches_one_of(payload("icmp", "type"), &["destination-unreachable", "time-exceeded"]),
                    Statement::Accept(None),
                ],
            ],
        ),
        (
            "forward",
            Some((Filter, NfHook::Forward, 0, Drop)),
            vec![
                vec![is_in(ct("state"), text("invalid")), Statement::Drop(None)],
                vec![matches(meta(MetaKey::Iifname), CELLS), goto("crossing")],
                vec![matches(meta(MetaKey::Oifname), CELLS), goto("returning")],
            ],
        ),
        // One cell never reaches another, whatever a permit lists.
        (
            "crossing",
            None,
            vec![
                vec![matches(meta(MetaKey::Oifname), CELLS), goto("deny")],
                vec![unmarked(Operator::NEQ), Statement::Accept(None)],
                vec![Statement::Drop(None)],
            ],
        ),
        // Back: only to a live session, so that a revoked one hears nothing more of its flows.
        (
            "returning",
            None,
            vec![
                vec![set(meta(MetaKey::Mark), Expression::Number(0))],
                vec![mark_from(MetaKey::Oifname, "daddr")],
                vec![
                    unmarked(Operator::NEQ),
                    is_in(ct("state"), Expression::List(vec![text("established"), text("related")])),
                    Statement::Accept(None),
                ],
                vec![Statement::Drop(None)],
            ],
        ),
        (
            "deny",
            None,
            vec![
                vec![log("denied")],
                vec![matches(meta(MetaKey::L4proto), "tcp"), reject(RejectType::TCPReset, None)],
                vec![reject(RejectType::ICMPX, Some(RejectCode::AdminProhibited))],
            ],
        ),
        (
            "postrouting",
            Some((NAT, NfHook::Postrouting, 100, Accept)),
            vec![vec![matches(meta(MetaKey::Oifname), UPLINKS), Statement::Masquerade(None)]],
        ),
    ];
    for (name, base, _) in &chains {
        let mut chain = Chain { family: NfFamily::INet, table: TABLE.into(), name: (*name).into(), ..Chain::default() };
        if let Some((kind, hook, priority, policy)) = base {
            chain = Chain { _type: Some(*kind), hook: Some(*hook), prio: Some(*priority), policy: Some(*policy), ..chain };
        }
        batch.add(NfListObject::Chain(chain));
    }
    for (name, _, rules) in chains {
        for expr in rules {
            batch.add(NfListObject::Rule(Rule {
                family: NfFamily::INet,
                table: TABLE.into(),
                chain: name.into(),
                expr: expr.into(),
                ..Rule::default()
            }));
        }
    }
    batch.to_nftables()
}

fn types(of: &'static [SetType]) -> SetTypeValue<'static> {
    SetTypeValue::Concatenated(Cow::Borrowed(of))
}

fn text(text: &'static str) -> Expression<'static> {
    Expression::String(text.into())
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn ct(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))
}

fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField { protocol: protocol.into(), field: field.into() })))
}

fn concat(parts: Vec<Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Concat(parts))
}

fn compare(left: Expression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn matches(left: Expression<'static>, right: &'static str) -> Statement<'static> {
    compare(left, Operator::EQ, text(right))
}

fn matches_one_of(left: Expression<'static>, of: &[&'static str]) -> Statement<'static> {
    let items = of.iter().map(|item| SetItem::Element(text(item))).collect();
    compare(left, Operator::EQ, Expression::Named(NamedExpression::Set(items)))
}

fn is_in(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    compare(left, Operator::IN, right)
}

fn unmarked(op: Operator) -> Statement<'static> {
    compare(meta(MetaKey::Mark), op, Expression::Number(0))
}

fn set(key: Expression<'static>, value: Expression<'static>) -> Statement<'static> {
    Statement::Mangle(Mangle { key, value })
}

/// Gives the packet the mark of the session that lives behind this interface under this address; leaves the rule if none does.
fn mark_from(interface: MetaKey, address: &'static str) -> Statement<'static> {
    let key = concat(vec![meta(interface), payload("ip", address)]);
    let data = Expression::String(format!("@{SESSIONS}").into());
    set(meta(MetaKey::Mark), Expression::Named(NamedExpression::Map(Box::new(MapExpression { key, data }))))
}

fn listed() -> Statement<'static> {
    let key = concat(vec![meta(MetaKey::Mark), payload("ip", "daddr"), meta(MetaKey::L4proto), payload("th", "dport")]);
    compare(key, Operator::EQ, Expression::String(format!("@{ALLOWED}").into()))
}

fn goto(chain: &'static str) -> Statement<'static> {
    Statement::Goto(JumpTarget { target: chain.into() })
}

fn log(prefix: &'static str) -> Statement<'static> {
    Statement::Log(Some(Log { prefix: Some(prefix.into()), snaplen: Some(LOG_BYTES), ..Log::new(Some(u32::from(LOG_GROUP))) }))
}

const fn reject(kind: RejectType, code: Option<RejectCode>) -> Statement<'static> {
    Statement::Reject(Some(Reject { _type: Some(kind), expr: code }))
}
