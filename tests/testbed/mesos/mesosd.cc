// mesosd: one program, two daemons, chosen by the name that it is started under.
//   mesos-master   a real Apache Mesos 1.11.0 master, alone in its process
//   mesos-agent    a real Apache Mesos 1.11.0 agent,  alone in its process
// Flags: MESOS_<NAME> in the environment or --name=value, exactly as with the stock daemons.
//
// Each main() of the stock daemons only makes its objects in a certain order and waits. So do we, through exported symbols.
#include "mesosd.h"

#include <sys/prctl.h>
#include <sys/stat.h>

#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

using std::string;

static std::vector<string> arguments;

OptionalString flag(const char* name) {
  string option = string("--") + name + "=";
  for (const string& argument : arguments) {
    if (argument.compare(0, option.size(), option) == 0) return argument.substr(option.size());
  }
  string variable = "MESOS_";
  for (const char* c = name; *c; c++) variable += static_cast<char>(toupper(*c));
  const char* value = getenv(variable.c_str());
  return value ? OptionalString(string(value)) : OptionalString();
}

string flag_or(const char* name, const string& otherwise) {
  OptionalString found = flag(name);
  return found.some() ? found.value : otherwise;
}

OptionalString contents_or_value(const OptionalString& value) {
  if (!value.some()) return value;
  string path = value.value.compare(0, 7, "file://") == 0 ? value.value.substr(7) : value.value;
  FILE* file = path[0] == '/' ? fopen(path.c_str(), "r") : nullptr;
  if (!file) return value;
  char buffer[1 << 16];
  string text(buffer, fread(buffer, 1, sizeof buffer, file));
  fclose(file);
  while (!text.empty() && isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  return text;
}

Duration duration(const string& text) {
  static const std::map<string, double> units = {{"ns", 1},       {"us", 1e3},       {"ms", 1e6},      {"secs", 1e9},
                                                 {"mins", 60e9},  {"hrs", 3600e9},   {"days", 86400e9}, {"weeks", 604800e9}};
  char* unit;
  double number = strtod(text.c_str(), &unit);
  auto found = units.find(unit);
  if (found == units.end()) {
    fprintf(stderr, "not a duration: '%s'\n", text.c_str());
    exit(1);
  }
  return Duration{static_cast<long>(number * found->second)};
}

void make_directories(const string& path) {
  for (size_t i = 1; i <= path.size(); i++) {
    if (i == path.size() || path[i] == '/') mkdir(path.substr(0, i).c_str(), 0755);
  }
}

void load_daemon_flags(void* flags, int slot, int argc, char** argv, bool allow_unknown) {
  // FlagsBase is a virtual base: its offset stands in the vtable.
  char* vtable = *static_cast<char**>(flags);
  char* base = static_cast<char*>(flags) + *reinterpret_cast<long*>(vtable - 8 * slot);
  load_flags(base, "MESOS_", argc, argv, allow_unknown);
}

void start_logging(int argc, char** argv) {
  char* option = static_cast<char*>(room());  // Option<logging::Flags>, zero being SOME
  symbol<void (*)(void*)>("_ZN5mesos8internal7logging5FlagsC1Ev")(option + 8);
  load_daemon_flags(option + 8, 3, argc, argv, true);
  string program = argv[0];
  symbol<void (*)(string*, bool, void*)>("_ZN5mesos8internal7logging10initializeERK" STRING_SYMBOL "bRK6OptionINS1_5FlagsEE")(
      &program, true, option);
}

void spawn(void* process, bool manage) {
  // ProcessBase is a virtual base too, the first one.
  char* vtable = *static_cast<char**>(process);
  char* base = static_cast<char*>(process) + *reinterpret_cast<long*>(vtable - 24);
  symbol<void (*)(void*, void*, bool)>("_ZN7process5spawnEPNS_11ProcessBaseEb")(room(4096), base, manage);
}

void initialize_libprocess(const string& delegate, const char* readwrite_realm, const char* readonly_realm) {
  OptionalString name(delegate), readwrite{string(readwrite_realm)}, readonly{string(readonly_realm)};
  using Initialize = bool (*)(OptionalString*, OptionalString*, OptionalString*);
  symbol<Initialize>("_ZN7process10initializeERK6OptionI" STRING_SYMBOL "ES9_S9_")(&name, &readwrite, &readonly);
  void* version = room();
  symbol<void (*)(void*)>("_ZN5mesos8internal14VersionProcessC1Ev")(version);
  spawn(version, true);
}

Option<void*> make_authorizer(const char* flag_name) {
  string name = flag_or(flag_name, "local");
  TryPointer made;
  if (name != "local") {
    symbol<void (*)(TryPointer*, string*)>("_ZN5mesos10Authorizer6createERK" STRING_SYMBOL)(&made, &name);
    return made.get("authorizer");
  }
  OptionalString acls = contents_or_value(flag("acls"));
  if (!acls.some()) return {};
  char* parsed = static_cast<char*>(room());  // Try<ACLs>
  symbol<void (*)(void*, string*)>("_ZN5flags5parseIN5mesos4ACLsEEE3TryIT_5ErrorERK" STRING_SYMBOL)(parsed, &acls.value);
  if (*reinterpret_cast<int*>(parsed) != 0) {
    fprintf(stderr, "bad --acls\n");
    exit(1);
  }
  symbol<void (*)(TryPointer*, void*)>("_ZN5mesos10Authorizer6createERKNS_4ACLsE")(&made, parsed + 8);
  return made.get("acls");
}

void* make_detector(const OptionalString& master, const OptionalString& module, Duration session_timeout) {
  TryPointer made;
  Option<Duration> timeout(session_timeout);
  using Create = void (*)(TryPointer*, const OptionalString*, const OptionalString*, Option<Duration>*);
  symbol<Create>("_ZN5mesos6master8detector14MasterDetector6createERK6OptionI" STRING_SYMBOL "ESC_RKS3_I8DurationE")(
      &made, &master, &module, &timeout);
  return made.get("master detector");
}

void* make_files(OptionalString* realm, Option<void*>* authorizer) {
  void* files = room();
  using Construct = void (*)(void*, OptionalString*, Option<void*>*);
  symbol<Construct>("_ZN5mesos8internal5FilesC1ERK6OptionI" STRING_SYMBOL "ERKS2_IPNS_10AuthorizerEE")(files, realm, authorizer);
  return files;
}

// What the stock daemons hand on to libprocess, which reads its own variables.
static void export_address(const char* default_port) {
  const struct {
    const char* name;
    const char* variable;
  } passed_on[] = {{"ip", "LIBPROCESS_IP"}, {"advertise_ip", "LIBPROCESS_ADVERTISE_IP"}, {"advertise_port", "LIBPROCESS_ADVERTISE_PORT"}};
  for (const auto& one : passed_on) {
    OptionalString value = flag(one.name);
    if (value.some()) setenv(one.variable, value.value.c_str(), 1);
  }
  setenv("LIBPROCESS_PORT", flag_or("port", default_port).c_str(), 1);
  setenv("LIBPROCESS_MEMORY_PROFILING", "false", 1);
}

int main(int argc, char** argv) {
  // For those who start daemons and may be killed themselves. Note that the kernel means the THREAD that started this process.
  if (getenv("MESOSD_PDEATHSIG")) prctl(PR_SET_PDEATHSIG, SIGKILL);
  arguments.assign(argv + 1, argv + argc);
  string name = argv[0];
  bool is_agent = name.substr(name.rfind('/') + 1).find("agent") != string::npos;
  open_libmesos();
  export_address(is_agent ? "5051" : "5050");
  return is_agent ? run_agent(argc, argv) : run_master(argc, argv);
}
