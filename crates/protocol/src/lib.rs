//! The wire between client and gateway, frame by frame.
