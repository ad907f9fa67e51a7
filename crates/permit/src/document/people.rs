//! Holders and output checkers.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::reader::{DayEdge, LIST_ENTRIES_MAX, Reader};
use crate::model::{Holder, Identity, OutputChecker, Problem, Role, Validity};
use crate::shape::{CertificateTable, HolderTable, Moment, OutputCheckerTable, Spanned};

impl Reader<'_> {
    pub(super) fn holders(&mut self, tables: Spanned<Vec<HolderTable>>, zone: Option<&TimeZone>, validity: Option<&Validity>) -> Vec<Holder> {
        let span = tables.span();
        let tables = tables.into_inner();
        if tables.is_empty() || tables.len() > LIST_ENTRIES_MAX {
            self.problem(span, format!("the permit lists {} persons", tables.len()), format!("write 1 to {LIST_ENTRIES_MAX} [[holder]] tables"));
        }
        let holders: Vec<_> = tables.into_iter().take(LIST_ENTRIES_MAX).filter_map(|table| self.holder(table, zone, validity)).collect();
        self.distinct(holders.iter().map(|holder| (holder.id.to_string(), &holder.at)), "is listed already");
        let mut keys = BTreeMap::new();
        for holder in &holders {
            if let Some(first) = keys.insert(&holder.identity, holder)
                && first.id != holder.id
            {
                let what = format!("{} stands for {} too", holder.identity, first.id);
                self.problems
                    .push(Problem::new(holder.at.clone(), what, "one certificate or key stands for one person").with(&first.at, "listed here"));
            }
        }
        holders
    }

    fn holder(&mut self, table: HolderTable, zone: Option<&TimeZone>, validity: Option<&Validity>) -> Option<Holder> {
        let HolderTable { id, name, certificate, roles, valid_from, valid_until, revoked, second_factor } = table;
        let at = self.at(&id.span());
        let id = self.id(&id);
        let name = self.text(name);
        let identity = self.identity(certificate);
        let roles_at = self.at(&roles.span());
        let roles = self.roles(roles);
        let factors = [("none", "none"), ("totp", "totp"), ("hardware-key", "hardware-key")];
        let factor_span = second_factor.as_ref().map(Spanned::span);
        if let (Some(factor), Some(span)) = (self.one_of(second_factor, "none", &factors, "is no second factor"), factor_span)
            && factor != "none"
        {
            self.unbuilt(span, "second factor", "leave second_factor out; a certificate whose key is on a card is two factors already");
        }
        let mut own = |value: Option<Spanned<Moment>>, edge| {
            let (value, zone) = (value?, zone?);
            let instant = self.instant(&value, zone, edge)?;
            if validity.is_some_and(|validity| instant > validity.until || instant < validity.from) {
                self.problem(value.span(), "this date is outside the permit's period", "write a date inside it, or leave it out");
            }
            Some((instant, value.span()))
        };
        let from = own(valid_from, DayEdge::First);
        let until = own(valid_until, DayEdge::Last);
        if let (Some((from, _)), Some((until, span))) = (&from, &until)
            && until <= from
        {
            self.problem(span.clone(), "the person's own period ends before it begins", "swap the two dates, or correct the year");
        }
        let revoked = match (revoked, zone) {
            (Some(value), Some(zone)) => self.instant(&value, zone, DayEdge::First).map(|instant| (instant, self.at(&value.span()))),
            _ => None,
        };
        let (from, until) = (from.map(|(instant, _)| instant), until.map(|(instant, _)| instant));
        Some(Holder { id: id?, name: name?, identity: identity?, roles, roles_at, from, until, revoked, at })
    }

    fn roles(&mut self, list: Spanned<Vec<Spanned<String>>>) -> Vec<Role> {
        let span = list.span();
        let known = Role::ALL.iter().map(|role| (role.name(), *role)).collect::<Vec<_>>();
        let mut roles = Vec::new();
        let words = self.bounded(list.into_inner());
        if words.is_empty() {
            self.problem(span, "the person has no role", "write at least one, as in [\"analyst\"]");
        }
        for word in words {
            // The default is of no effect: there is a word.
            roles.extend(self.one_of(Some(word), Role::Observer, &known, "is no role"));
        }
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    fn identity(&mut self, table: Spanned<CertificateTable>) -> Option<Identity> {
        let span = table.span();
        let CertificateTable { uri, issuer, subject_serial_number, key_sha256 } = table.into_inner();
        let identity = Identity::of_document(uri, issuer, subject_serial_number, key_sha256);
        self.checked(span, identity, "this does not identify one person")
    }

    /// SE: who decides on what leaves has no interest in its leaving.
    pub(super) fn output_checkers(&mut self, tables: Vec<OutputCheckerTable>, holders: &[Holder]) -> Vec<OutputChecker> {
        let mut checkers = Vec::new();
        for OutputCheckerTable { id, name, certificate } in self.bounded(tables) {
            let at = self.at(&id.span());
            let (id, name, identity) = (self.id(&id), self.text(name), self.identity(certificate));
            let (Some(id), Some(name), Some(identity)) = (id, name, identity) else { continue };
            if let Some(holder) = holders.iter().find(|holder| holder.id == id || holder.identity == identity) {
                let what = format!("{id} checks what leaves and is a holder of this permit");
                self.problems
                    .push(Problem::new(at.clone(), what, "name somebody who holds no part of this permit").with(&holder.at, "a holder here"));
            }
            checkers.push(OutputChecker { id, name, identity, at });
        }
        self.distinct(checkers.iter().map(|checker| (checker.id.to_string(), &checker.at)), "is listed already");
        checkers
    }
}
