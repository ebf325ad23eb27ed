// The parts that the master and the agent have in common.
#pragma once

#include <string>

#include "libmesos.h"

// --name=value, else MESOS_NAME, else none. The library parses all flags itself; this is for those that we need to see.
OptionalString flag(const char* name);
std::string flag_or(const char* name, const std::string& otherwise);

// The contents if the value is a path (/x or file:///x), as --zk, --master and --acls allow; else the value.
OptionalString contents_or_value(const OptionalString& value);

// "10secs" and the like.
Duration duration(const std::string& text);

void make_directories(const std::string& path);

// Fills a Flags object of the master, the agent or the logging; `slot` is where its vtable has the offset of FlagsBase.
void load_daemon_flags(void* flags, int slot, int argc, char** argv, bool allow_unknown);

void start_logging(int argc, char** argv);

// process::initialize, with the name of the process that answers for "/", and the authentication realms of the endpoints.
void initialize_libprocess(const std::string& delegate, const char* readwrite_realm, const char* readonly_realm);

// Starts a libprocess process; it lives as long as the program.
void spawn(void* process, bool manage);

// The Authorizer that the flag asks for: the local one with --acls, a module, or none.
Option<void*> make_authorizer(const char* flag_name);

// MasterDetector::create.
void* make_detector(const OptionalString& master, const OptionalString& module, Duration session_timeout);

// mesos::internal::Files.
void* make_files(OptionalString* realm, Option<void*>* authorizer);

int run_master(int argc, char** argv);
int run_agent(int argc, char** argv);
