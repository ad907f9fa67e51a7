//! The shapes of the files, as serde sees them. Unknown keys are errors: a typo must never widen access.
//!
//! What is said here of a table or key is what an editor shows for it: `config/schema/*.json` is made of it, by a test.

use std::ops::Range;

use serde::Deserialize;
use toml::value::Datetime;

/// A value and where it stands.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Spanned<T>(toml::Spanned<T>);

impl<T> Spanned<T> {
    pub(crate) fn span(&self) -> Range<usize> {
        self.0.span()
    }

    pub(crate) fn get(&self) -> &T {
        self.0.get_ref()
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

/// A date, or a date and time.
#[derive(Deserialize, Clone, Copy)]
#[serde(transparent)]
pub(crate) struct Moment(pub(crate) Datetime);

type Text = Spanned<String>;
pub(crate) type Texts = Spanned<Vec<Spanned<String>>>;

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub(crate) struct $name { $($(#[$fdoc])* pub(crate) $field: $type,)* })*
    };
}

shapes! {
    /// One permit, one file. What it does not name is denied.
    Document {
        /// The version of this format: 1.
        schema: Spanned<u32>,
        /// What the permit is: its number, its issuer, its period.
        permit: PermitTable,
        /// Who answers for the processing.
        controller: ControllerTable,
        /// The natural persons that the permit lists, one table each.
        holder: Spanned<Vec<HolderTable>>,
        /// Who decides on what leaves. Never a holder.
        #[serde(default)]
        output_checker: Vec<OutputCheckerTable>,
        /// The environment that the permit grants.
        workspace: WorkspaceTable,
        /// The data that it grants, read-only.
        #[serde(default)]
        dataset: Vec<DatasetTable>,
        /// What the workspace may reach. All else is dropped, and each try is an entry in the ledger.
        #[serde(default)]
        egress: Vec<EgressTable>,
        /// How long, how many, from where.
        session: SessionTable,
        /// What a session may use up.
        #[serde(default)]
        resources: ResourcesTable,
        /// What is recorded of a session, and for how long it is kept.
        #[serde(default)]
        recording: RecordingTable,
        /// What is kept after the permit's end, and for how long.
        #[serde(default)]
        retention: RetentionTable,
        /// What the clipboard may carry.
        #[serde(default)]
        clipboard: ClipboardTable,
        /// What the screen may carry away.
        #[serde(default)]
        output: OutputTable,
        /// The way in and out for files.
        #[serde(default)]
        airlock: AirlockTable,
        /// Who may do what when: checked by `sulku policy check` and before each activation; a case that fails keeps the old version in force.
        #[serde(default)]
        test: Vec<CaseTable>,
    }

    /// What the permit is.
    PermitTable {
        /// Its diary number: 1 to 64 of A-Z a-z 0-9 / . _ -
        id: Text,
        /// Which text of it this is, counted from 1.
        version: Option<Spanned<u32>>,
        /// "GRANTED" (the default), "AMENDED", "RENEWED", "REVOKED" or "EXPIRED".
        status: Option<Text>,
        /// The permit that this one amends or renews; needed with those two.
        replaces: Option<Text>,
        /// Why nobody is admitted for now. Leave it out, and the permit is in force again.
        suspended: Option<Text>,
        /// Its title, for people.
        title: Text,
        /// What the data may be used for.
        purpose: Text,
        /// Who issued it, in words. Either this or `authority`.
        issuer: Option<Text>,
        /// Who issued it: the name of a file in `authorities/`. The permit then lies within that authority's own dates.
        authority: Option<Text>,
        /// The first day, or the first instant.
        valid_from: Spanned<Moment>,
        /// The last day, which is inside the period, or the first instant after it.
        valid_until: Spanned<Moment>,
        /// The time zone of all dates in this file, as in "Europe/Helsinki".
        time_zone: Text,
        /// The least assurance of a holder's certificate: "low", "substantial" or "high".
        assurance: Option<Text>,
        /// The weakest isolation that a cell may have: "root" (the default), "rootless" or "no-network".
        isolation: Option<Text>,
    }

    /// Who answers for the processing.
    ControllerTable {
        /// The organisation's name.
        name: Text,
        /// Mail addresses, telephone numbers: whom to call when data are in danger.
        contacts: Texts,
    }

    /// One natural person.
    HolderTable {
        /// The short name that entries and commands use: 1 to 48 of a-z 0-9 . -
        id: Text,
        /// Her name, for people; never compared with anything.
        name: Text,
        /// What her certificate must show.
        certificate: Spanned<CertificateTable>,
        /// What she may do: "analyst" works in the workspace, "export-requester" asks for results, "observer" opens no session.
        roles: Texts,
        /// When her own right begins, if after the permit.
        valid_from: Option<Spanned<Moment>>,
        /// When her own right ends, if before the permit.
        valid_until: Option<Spanned<Moment>>,
        /// When her right was taken back.
        revoked: Option<Spanned<Moment>>,
        /// A second factor beside the certificate: "none".
        second_factor: Option<Text>,
    }

    /// What identifies one person. Exactly one of the three ways.
    CertificateTable {
        /// The URI in the certificate, in SPIFFE form, letter for letter.
        uri: Option<String>,
        /// The issuer's name in the gateway's configuration; with `subject_serial_number`.
        issuer: Option<String>,
        /// The subject's serialNumber, as FINEID's SATU; with `issuer`.
        subject_serial_number: Option<String>,
        /// SHA-256 of the SubjectPublicKeyInfo, 64 hexadecimal digits.
        key_sha256: Option<String>,
    }

    /// Who decides on what leaves.
    OutputCheckerTable {
        /// The short name that entries and commands use.
        id: Text,
        /// Her name, for people.
        name: Text,
        /// What her certificate must show.
        certificate: Spanned<CertificateTable>,
    }

    /// The environment that the permit grants.
    WorkspaceTable {
        /// Its folder and host name: 1 to 48 of a-z 0-9 -. No two permits share one.
        name: Text,
        /// Its system: the name of a file in `images/`. Left out: the host's own programmes.
        image: Option<Text>,
        /// Which programs run: "anywhere" (the default), also those that a holder makes or brings; "image-only": those of its system.
        programs: Option<Text>,
        /// The most that it holds, as in "20 GiB": the host sets so much aside for it. Left out: it shares the host's disk, without a bound.
        disk: Option<Text>,
        /// How it is used: ["terminal"] (the default).
        interfaces: Option<Texts>,
    }

    /// Data that the workspace sees, read-only.
    DatasetTable {
        /// The name of a file in `datasets/`. Either this, or `name` and `path`.
        dataset: Option<Text>,
        /// Its name, for people.
        name: Option<Text>,
        /// A folder on the host, absolute.
        path: Option<Text>,
        /// One name below /data.
        mounted_at: Text,
        /// A file of SHA-256 sums of what the folder holds, as sha256sum writes it.
        manifest: Option<Text>,
        /// About how many persons the data are about.
        persons: Option<u64>,
        /// About how many records it has.
        records: Option<u64>,
    }

    /// A destination that the workspace may reach.
    EgressTable {
        /// The name of a file in `networks/`. Either this, or `name`, `to` and `ports`.
        network: Option<Text>,
        /// Its name, for people.
        name: Option<Text>,
        /// An address, a network with its host bits zero, a host's name as in "cran.r-project.org", or all names below one, as in
        /// "*.example.org".
        to: Option<Text>,
        /// Such as ["443/tcp", "123/udp"].
        ports: Option<Texts>,
        /// With a name: "name-checked", so that TLS connections to 443/tcp must ask for it (the default); "address-only", so that its
        /// addresses are open as if they were listed; "closed", shut whatever a wider pattern opens.
        check: Option<Text>,
        /// With a name: where its addresses must lie, as in ["10.20.0.0/16"]. Left out: anywhere public, and nowhere private.
        within: Option<Texts>,
        /// What one session may send there, as in "2 GiB". Left out: no bound.
        bytes: Option<Text>,
        /// New connections of one session to there, as in "60 a minute". Left out: no bound.
        connections: Option<Text>,
        /// Why the permit needs it.
        reason: Text,
        /// Who answers for it.
        owner: Option<Text>,
        /// When it closes, if before the permit's end.
        valid_until: Option<Spanned<Moment>>,
    }

    /// How long, how many, from where.
    SessionTable {
        /// Networks that a holder may connect from. What is not in one of them is refused.
        from_networks: Texts,
        /// Sessions of one person at once: 1 to 64; 1 where it is left out.
        max_per_person: Option<Spanned<u32>>,
        /// Sessions of all holders at once: 1 to 4096.
        max_at_once: Option<Spanned<u32>>,
        /// The longest session, as in "8 h"; at most 7 d; "12 h" where it is left out.
        max_length: Option<Text>,
        /// Without typing for this long, a session is closed; at most 24 h; "30 min" where it is left out.
        idle_disconnect: Option<Text>,
        /// How long a session stays open whose connection was lost or left, as in "8 h"; at most 7 d; "never": it ends with its
        /// connection; as long as `idle_disconnect` where it is left out.
        max_detached: Option<Text>,
        /// When sessions may be open, as in ["Mon-Fri 06:00-22:00"], in the permit's time zone. Left out: always.
        allowed_hours: Option<Texts>,
        /// When sessions may be open: the name of a file in `calendars/`. Instead of `allowed_hours`.
        calendar: Option<Text>,
    }

    /// What a system for workspaces is.
    ImageFile {
        /// The version of this format: 1.
        schema: Spanned<u32>,
        /// The image.
        image: ImageTable,
    }

    /// A system for workspaces.
    ImageTable {
        /// Its name, by which permits refer to it; also the file's.
        name: Text,
        /// For people.
        title: Text,
        /// "host": the host's own programmes; or "sha256:" and 64 hexadecimal digits: what the image's file must be.
        system: Text,
    }

    /// Data that several permits grant.
    DatasetFile {
        /// The version of this format: 1.
        schema: Spanned<u32>,
        /// The dataset.
        dataset: SharedDatasetTable,
    }

    /// Data that several permits grant.
    SharedDatasetTable {
        /// Its name, by which permits refer to it; also the file's.
        name: Text,
        /// For people.
        title: Text,
        /// A folder on the host, absolute.
        path: Text,
        /// A file of SHA-256 sums of what the folder holds, as sha256sum writes it.
        manifest: Option<Text>,
        /// About how many persons the data are about.
        persons: Option<u64>,
        /// About how many records it has.
        records: Option<u64>,
    }

    /// A destination that several permits name.
    NetworkFile {
        /// The version of this format: 1.
        schema: Spanned<u32>,
        /// The destination.
        network: NetworkTable,
    }

    /// A destination that several permits name.
    NetworkTable {
        /// Its name, by which permits refer to it; also the file's.
        name: Text,
        /// For people.
        title: Text,
        /// An address, a network with its host bits zero, a host's name, or all names below one, as in "*.example.org".
        to: Text,
        /// Such as ["443/tcp", "123/udp"].
        ports: Texts,
        /// With a name: "name-checked" (the default), "address-only" or "closed".
        check: Option<Text>,
        /// With a name: where its addresses must lie.
        within: Option<Texts>,
        /// What one session may send there, as in "2 GiB". A permit may write another amount.
        bytes: Option<Text>,
        /// New connections of one session to there, as in "60 a minute". A permit may write another rate.
        connections: Option<Text>,
        /// Who answers for it.
        owner: Option<Text>,
    }

    /// Hours that several permits share.
    CalendarFile {
        /// The version of this format: 1.
        schema: Spanned<u32>,
        /// The hours.
        calendar: CalendarTable,
    }

    /// Hours that several permits share.
    CalendarTable {
        /// Its name, by which permits refer to it; also the file's.
        name: Text,
        /// The time zone of the hours, as in "Europe/Helsinki".
        time_zone: Text,
        /// Such as ["Mon-Fri 06:00-22:00", "Sat,Sun 08:00-20:00"].
        hours: Texts,
        /// Days on which nothing is open.
        #[serde(default)]
        closed: Vec<Spanned<Moment>>,
    }

    /// A body that issues permits.
    AuthorityFile {
        /// The version of this format: 1.
        schema: Spanned<u32>,
        /// The body.
        authority: AuthorityTable,
    }

    /// A body that issues permits.
    AuthorityTable {
        /// Its name, by which permits refer to it; also the file's.
        name: Text,
        /// For people.
        title: Text,
        /// Where it is reached.
        contacts: Texts,
        /// The time zone of the dates, as in "Europe/Helsinki".
        time_zone: Text,
        /// From when its permits may hold.
        valid_from: Spanned<Moment>,
        /// Until when its permits may hold, this day included.
        valid_until: Spanned<Moment>,
    }

    /// Everything stands still while this file is there: nobody is admitted, and open sessions end.
    HaltFile {
        /// The version of this format: 1.
        schema: Spanned<u32>,
        /// Why.
        halt: HaltTable,
    }

    /// Why everything stands still.
    HaltTable {
        /// In words, for the record.
        reason: Text,
    }

    /// A case: who, when, from where, does what, and what must come of it.
    CaseTable {
        /// What it shows, in words.
        name: Text,
        /// The person's id.
        person: Text,
        /// When, in the permit's time zone.
        at: Spanned<Moment>,
        /// From which address. Left out: from the first of `from_networks`.
        from: Option<Text>,
        /// "connect", "reach ADDRESS:PORT/tcp", "reach NAME:PORT/tcp" or "read DATASET".
        does: Text,
        /// "allow", or "deny" and the reason, as in "deny permit-expired".
        expect: Text,
    }
}

macro_rules! optional_shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub(crate) struct $name { $($(#[$fdoc])* pub(crate) $field: Option<$type>,)* })*
    };
}

optional_shapes! {
    /// What one session may use up.
    ResourcesTable {
        /// As in "4 GiB": KiB, MiB, GiB, TiB; "2 GiB" where it is left out.
        memory: Text,
        /// 8 to 65536; 512 where it is left out.
        processes: Spanned<u32>,
        /// 0.1 to 1024.0; 1.0 where it is left out.
        cpus: Spanned<f64>,
    }

    /// What is recorded of a session.
    RecordingTable {
        /// "output-and-input-timing": all that is shown, and when something was typed, never what (the default); "output-and-input":
        /// what was typed too, passwords included.
        terminal: Text,
        /// "strict": output is shown once its recording is durable (the default); "windowed": at once, while little of it is not durable.
        durability: Text,
        /// How long a recording can't be deleted, from the session's opening on: "d" or "y", one year at least; "5 y" where it is left out.
        retention: Text,
    }

    /// What is kept after the permit's end.
    RetentionTable {
        /// How long the workspace is kept, sealed, after the permit's end: "d" or "y"; "90 d" where it is left out.
        workspace: Text,
    }

    /// What the clipboard may carry.
    ClipboardTable {
        /// "never".
        into_workspace: Text,
        /// "never".
        out_of_workspace: Text,
    }

    /// What the screen may carry away. No bound but the terminal's own where it is left out.
    OutputTable {
        /// As in "256 KiB".
        terminal_per_minute: Text,
        /// As in "20 MiB".
        terminal_per_session: Text,
    }

    /// The way in and out for files. Closed.
    AirlockTable {
        /// What may come in.
        import: AirlockWayTable,
        /// What may go out.
        export: AirlockWayTable,
    }

    /// One way of the airlock.
    AirlockWayTable {
        /// File name endings, as in ["csv", "txt"].
        allowed_types: Spanned<Vec<Spanned<String>>>,
        /// As in "20 MiB".
        max_size: Text,
        /// 1 to 1000.
        max_files: Spanned<u32>,
    }
}
