//! The classes of OCSF 1.8.0 that events are mapped to, with their numbers and captions.
//!
//! Only what is used. The test against the published schemas holds that every number and name is right.

/// A class of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    BaseEvent,
    FileActivity,
    ProcessActivity,
    EventLog,
    Authentication,
    AuthorizeSession,
    EntityManagement,
    NetworkActivity,
    DnsActivity,
    ApplicationLifecycle,
    ApiActivity,
    FileHosting,
}

impl Class {
    pub(super) const fn uid(self) -> u32 {
        match self {
            Self::BaseEvent => 0,
            Self::FileActivity => 1001,
            Self::ProcessActivity => 1007,
            Self::EventLog => 1008,
            Self::Authentication => 3002,
            Self::AuthorizeSession => 3003,
            Self::EntityManagement => 3004,
            Self::NetworkActivity => 4001,
            Self::DnsActivity => 4003,
            Self::ApplicationLifecycle => 6002,
            Self::ApiActivity => 6003,
            Self::FileHosting => 6006,
        }
    }

    pub(super) const fn category(self) -> u32 {
        self.uid() / 1000
    }

    pub(super) const fn caption(self) -> &'static str {
        match self {
            Self::BaseEvent => "Base Event",
            Self::FileActivity => "File System Activity",
            Self::ProcessActivity => "Process Activity",
            Self::EventLog => "Event Log Activity",
            Self::Authentication => "Authentication",
            Self::AuthorizeSession => "Authorize Session",
            Self::EntityManagement => "Entity Management",
            Self::NetworkActivity => "Network Activity",
            Self::DnsActivity => "DNS Activity",
            Self::ApplicationLifecycle => "Application Lifecycle",
            Self::ApiActivity => "API Activity",
            Self::FileHosting => "File Hosting Activity",
        }
    }

    /// The caption of an activity of this class; of those that are used.
    pub(super) const fn activity(self, activity: u8) -> &'static str {
        match (self, activity) {
            (Self::FileActivity, 1) => "Create",
            (Self::FileActivity | Self::EntityManagement, 3) => "Update",
            (Self::FileActivity | Self::EntityManagement | Self::ApiActivity, 4) => "Delete",
            (Self::FileActivity, 14) => "Open",
            (Self::ProcessActivity, 1) => "Launch",
            (Self::ProcessActivity, 2) => "Terminate",
            (Self::EventLog, 6) => "Start",
            (Self::EventLog, 7) => "Stop",
            (Self::EventLog, 9) => "Enable",
            (Self::EventLog, 10) => "Disable",
            (Self::Authentication, 1) => "Logon",
            (Self::Authentication, 2) => "Logoff",
            (Self::AuthorizeSession, 1) => "Assign Privileges",
            (Self::EntityManagement, 10) => "Activate",
            (Self::DnsActivity, 1) => "Query",
            (Self::NetworkActivity, 2) => "Close",
            (Self::NetworkActivity, 3) => "Reset",
            (Self::NetworkActivity, 5) => "Refuse",
            (Self::ApplicationLifecycle, 3) => "Start",
            (Self::ApplicationLifecycle, 4) => "Stop",
            (Self::ApiActivity, 2) => "Read",
            (Self::FileHosting, 2) => "Download",
            (_, 99) => "Other",
            (_, _) => "Unknown",
        }
    }
}
