// The agent: what the main() of the stock mesos-agent makes, in the same order.
//
// MESOSD_NUM_AGENTS=N makes N whole agents slave(1) … slave(N) in one process, on one port, for tests of scale. Each has its own
// directories <work_dir>/<i> and <runtime_dir>/<i>, and "{i}" in MESOS_HOSTNAME, MESOS_ATTRIBUTES and MESOS_RESOURCES becomes its
// number, from 0.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "mesosd.h"

using std::string;

namespace {

// Flags as given, before they are filled in for each agent.
struct Templates {
  string work_dir = flag_or("work_dir", ""), runtime_dir = flag_or("runtime_dir", "");
  OptionalString hostname = flag("hostname"), attributes = flag("attributes"), resources = flag("resources");
  bool own_fetcher_cache = flag("fetcher_cache_dir").some();
};

// What all agents of this process share.
struct Shared {
  void *detector, *secret_resolver, *files;
  Option<void*> authorizer;
};

}  // namespace

static void set(const char* variable, const string& value) { setenv(variable, value.c_str(), 1); }

static void fill_in(const char* variable, const OptionalString& text, int number) {
  if (!text.some()) return;
  string value = text.value;
  for (size_t at; (at = value.find("{i}")) != string::npos;) value.replace(at, 3, std::to_string(number));
  set(variable, value);
}

// Sets the environment from which the flags of one agent are read, and makes its directories. Returns its work directory.
static string prepare_environment(const Templates& given, int number, bool several) {
  string suffix = several ? "/" + std::to_string(number) : "";
  string work = given.work_dir + suffix;
  string runtime = given.runtime_dir.empty() ? work + "/run" : given.runtime_dir + suffix;
  make_directories(work);
  make_directories(runtime);
  set("MESOS_RUNTIME_DIR", runtime);
  if (!given.own_fetcher_cache) set("MESOS_FETCHER_CACHE_DIR", work + "/fetch");
  if (several) {
    set("MESOS_WORK_DIR", work);
    fill_in("MESOS_HOSTNAME", given.hostname, number);
    fill_in("MESOS_ATTRIBUTES", given.attributes, number);
    fill_in("MESOS_RESOURCES", given.resources, number);
  }
  return work;
}

static Shared make_shared_parts() {
  TryPointer resolver;
  OptionalString resolver_module = flag("secret_resolver"), realm{string("mesos-agent-readonly")};
  symbol<void (*)(TryPointer*, OptionalString*)>("_ZN5mesos14SecretResolver6createERK6OptionI" STRING_SYMBOL "E")(
      &resolver, &resolver_module);
  Duration session_timeout = duration(flag_or("zk_session_timeout", "10secs"));
  Shared shared{make_detector(contents_or_value(flag("master")), flag("master_detector"), session_timeout),
                resolver.get("secret resolver"), nullptr, make_authorizer("authorizer")};
  shared.files = make_files(&realm, &shared.authorizer);
  return shared;
}

static void* make_volume_gid_manager(void* flags) {
  if (!flag("volume_gid_range").some()) return nullptr;
  TryPointer made;
  symbol<void (*)(TryPointer*, void*)>("_ZN5mesos8internal5slave16VolumeGidManager6createERKNS1_5FlagsE")(&made, flags);
  return made.get("volume gid manager");
}

static void* make_from_module(const char* create, const char* flag_name) {
  TryPointer made;
  OptionalString module = flag(flag_name);
  symbol<void (*)(TryPointer*, OptionalString*)>(create)(&made, &module);
  return made.get(flag_name);
}

static void spawn_agent(string* id, void* flags, string* work_dir, bool local, Shared* shared) {
  void* fetcher = room();
  symbol<void (*)(void*, void*)>("_ZN5mesos8internal5slave7FetcherC1ERKNS1_5FlagsE")(fetcher, flags);
  void* collector = room();
  symbol<void (*)(void*, string*)>("_ZN5mesos8internal5slave16GarbageCollectorC1ERK" STRING_SYMBOL)(collector, work_dir);
  void* gid_manager = make_volume_gid_manager(flags);

  TryPointer containerizer;
  using CreateContainerizer = void (*)(TryPointer*, void*, bool, void*, void*, void*, void*, void*, void*);
  symbol<CreateContainerizer>(
      "_ZN5mesos8internal5slave13Containerizer6createERKNS1_5FlagsEbPNS1_7FetcherEPNS1_16GarbageCollectorEPNS_14SecretResolverE"
      "PNS1_16VolumeGidManagerEPNS0_20PendingFutureTrackerEPNS1_9CSIServerE")(
      &containerizer, flags, local, fetcher, collector, shared->secret_resolver, gid_manager, nullptr, nullptr);

  void* update_manager = room();
  symbol<void (*)(void*, void*)>("_ZN5mesos8internal5slave23TaskStatusUpdateManagerC1ERKNS1_5FlagsE")(update_manager, flags);
  void* estimator = make_from_module("_ZN5mesos5slave17ResourceEstimator6createERK6OptionI" STRING_SYMBOL "E", "resource_estimator");
  void* qos = make_from_module("_ZN5mesos5slave13QoSController6createERK6OptionI" STRING_SYMBOL "E", "qos_controller");

  void* agent = room(1 << 16);
  void* no_csi_server[2] = {nullptr, nullptr};  // Owned<CSIServer>
  Option<std::shared_ptr<void>> no_domain_socket;
  using Construct = void (*)(void*, string*, void*, void*, void*, void*, void*, void*, void*, void*, void*, void*, void*, void*, void*,
                             Option<void*>*);
  symbol<Construct>(
      "_ZN5mesos8internal5slave5SlaveC1ERK" STRING_SYMBOL
      "RKNS1_5FlagsEPNS_6master8detector14MasterDetectorEPNS1_13ContainerizerEPNS0_5FilesEPNS1_16GarbageCollectorE"
      "PNS1_23TaskStatusUpdateManagerEPNS_5slave17ResourceEstimatorEPNSQ_13QoSControllerEPNS_15SecretGeneratorE"
      "PNS1_16VolumeGidManagerEPNS0_20PendingFutureTrackerEON7process5OwnedINS1_9CSIServerEEERK6OptionINS11_7network8internal"
      "6SocketINS17_4unix7AddressEEEERKS16_IPNS_10AuthorizerEE")(
      agent, id, flags, shared->detector, containerizer.get("containerizer"), shared->files, collector, update_manager, estimator, qos,
      nullptr, gid_manager, nullptr, no_csi_server, &no_domain_socket, &shared->authorizer);
  spawn(agent, false);
}

static void set_defaults() {
  setenv("MESOS_SYSTEMD_ENABLE_SUPPORT", "false", 0);
  if (!flag("launcher_dir").some()) set("MESOS_LAUNCHER_DIR", program_directory() + "/../launcher");
}

int run_agent(int argc, char** argv) {
  set_defaults();
  const Templates given;
  if (!flag("master").some() && !flag("master_detector").some()) {
    fprintf(stderr, "Missing required option `--master` or `--master_detector`\n");
    return 1;
  }
  if (given.work_dir.empty()) {
    fprintf(stderr, "--work_dir is required\n");
    return 1;
  }
  start_logging(argc, argv);

  const char* wanted = getenv("MESOSD_NUM_AGENTS");
  int count = wanted ? std::max(atoi(wanted), 1) : 1;
  Shared* shared = nullptr;
  for (int number = 0; number < count; number++) {
    string work_dir = prepare_environment(given, number, wanted != nullptr);
    void* flags = room();
    symbol<void (*)(void*)>("_ZN5mesos8internal5slave5FlagsC1Ev")(flags);
    load_daemon_flags(flags, 4, argc, argv, false);

    string base = "slave";
    string* id = static_cast<string*>(room());  // ID::generate makes the string in place: "slave(1)"
    symbol<void (*)(string*, string*)>("_ZN7process2ID8generateERK" STRING_SYMBOL)(id, &base);
    if (!shared) {
      initialize_libprocess(*id, "mesos-agent-readwrite", "mesos-agent-readonly");
      shared = new Shared(make_shared_parts());
    }
    spawn_agent(id, flags, &work_dir, count > 1, shared);
  }
  for (;;) pause();
}
