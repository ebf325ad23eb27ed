// The master: what the main() of the stock mesos-master makes, in the same order.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>

#include "mesosd.h"

using std::string;

// Where Master keeps its MasterInfo, in this build. The only offset here that no symbol tells; used without ZooKeeper only.
static const size_t MASTER_INFO_OFFSET = 0xe88;

namespace {

struct Authentication {
  string scheme, credentials;
};

// zk://[user:password@]host:port[,host:port]/path
struct ZooKeeperUrl {
  string servers, znode;
  Option<Authentication> authentication;

  explicit ZooKeeperUrl(const string& url) : ZooKeeperUrl(url.substr(5), url.substr(5).find('@')) {}

 private:
  ZooKeeperUrl(const string& rest, size_t at)
      : authentication(at == string::npos ? Option<Authentication>() : Authentication{"digest", rest.substr(0, at)}) {
    string address = at == string::npos ? rest : rest.substr(at + 1);
    size_t slash = address.find('/');
    servers = address.substr(0, slash);
    znode = slash == string::npos ? "/" : address.substr(slash);
    while (znode.size() > 1 && znode.back() == '/') znode.pop_back();
  }
};

}  // namespace

[[noreturn]] static void fail(const char* message) {
  fprintf(stderr, "%s\n", message);
  exit(1);
}

// One replica of the log that several masters share.
static void* replicated_log(const string& path, const string& zk, Duration session_timeout, bool auto_initialize) {
  OptionalString quorum = flag("quorum"), metrics_prefix{string("registrar/")};
  if (!quorum.some()) fail("Need to specify --quorum when using ZooKeeper");
  ZooKeeperUrl url(zk);
  string znode = url.znode + (url.znode.back() == '/' ? "log_replicas" : "/log_replicas");
  void* log = room();
  using Construct =
      void (*)(void*, int, const string*, string*, Duration*, string*, Option<Authentication>*, bool, OptionalString*);
  symbol<Construct>("_ZN5mesos3log3LogC1EiRK" STRING_SYMBOL
                    "S9_RK8DurationS9_RK6OptionIN9zookeeper14AuthenticationEEbRKSD_IS7_E")(
      log, atoi(quorum.value.c_str()), &path, &url.servers, &session_timeout, &znode, &url.authentication, auto_initialize,
      &metrics_prefix);
  return log;
}

// The log of a master that is alone.
static void* standalone_log(const string& path, bool auto_initialize) {
  std::set<int> no_replicas;  // std::set<UPID>: an empty set looks the same whatever it is of
  OptionalString metrics_prefix{string("registrar/")};
  void* log = room();
  using Construct = void (*)(void*, int, const string*, void*, bool, OptionalString*);
  symbol<Construct>("_ZN5mesos3log3LogC1EiRK" STRING_SYMBOL "RKSt3setIN7process4UPIDESt4lessISC_ESaISC_EEbRK6OptionIS7_E")(
      log, 1, &path, &no_replicas, auto_initialize, &metrics_prefix);
  return log;
}

static void* make_storage(const OptionalString& zk, Duration session_timeout) {
  void* storage = room();
  if (flag_or("registry", "replicated_log") == "in_memory") {
    symbol<void (*)(void*)>("_ZN5mesos5state15InMemoryStorageC1Ev")(storage);
    return storage;
  }
  string work_dir = flag_or("work_dir", "");
  if (work_dir.empty()) fail("--work_dir needed for replicated log based registry");
  make_directories(work_dir);
  string auto_initialize = flag_or("log_auto_initialize", "true"), path = work_dir + "/replicated_log";
  bool initialize = auto_initialize == "true" || auto_initialize == "1";
  void* log = zk.some() ? replicated_log(path, zk.value, session_timeout, initialize) : standalone_log(path, initialize);
  symbol<void (*)(void*, void*, unsigned long)>("_ZN5mesos5state10LogStorageC1EPNS_3log3LogEm")(storage, log, 0);
  return storage;
}

static void* make_registrar(void* flags, void* storage, OptionalString* realm) {
  // State is inline in its users: { vptr, Storage* }.
  void** state = static_cast<void**>(room());
  state[0] = symbol<char*>("_ZTVN5mesos5state8protobuf5StateE") + 16;
  state[1] = storage;
  void* registrar = room();
  using Construct = void (*)(void*, void*, void*, OptionalString*);
  symbol<Construct>("_ZN5mesos8internal6master9RegistrarC1ERKNS1_5FlagsEPNS_5state5StateERK6OptionI" STRING_SYMBOL "E")(
      registrar, flags, state, realm);
  return registrar;
}

// Only the hierarchical allocator with DRF sorters: the function that chooses one is not exported.
static void* make_allocator() {
  void* allocator = room();
  symbol<void (*)(void*)>(
      "_ZN5mesos8internal6master9allocator14MesosAllocatorINS2_28HierarchicalAllocatorProcessINS2_9DRFSorterES5_EEEC1Ev")(allocator);
  return allocator;
}

static void* make_contender(OptionalString* zk, Duration session_timeout) {
  TryPointer made;
  OptionalString module = flag("master_contender");
  Option<Duration> timeout(session_timeout);
  using Create = void (*)(TryPointer*, OptionalString*, OptionalString*, Option<Duration>*);
  symbol<Create>("_ZN5mesos6master9contender15MasterContender6createERK6OptionI" STRING_SYMBOL "ESC_RKS3_I8DurationE")(
      &made, zk, &module, &timeout);
  return made.get("master contender");
}

// --agent_removal_rate_limit, for example 1/10secs.
static Option<std::shared_ptr<void>> make_removal_limiter() {
  OptionalString rate = flag("agent_removal_rate_limit");
  if (!rate.some()) return {};
  size_t slash = rate.value.find('/');
  if (slash == string::npos) fail("Invalid agent_removal_rate_limit");
  Duration interval = duration(rate.value.substr(slash + 1));
  void* limiter = room();
  symbol<void (*)(void*, int, Duration*)>("_ZN7process11RateLimiterC1EiRK8Duration")(limiter, atoi(rate.value.c_str()), &interval);
  return std::shared_ptr<void>(limiter, [](void*) {});
}

// Without ZooKeeper nobody elects a leader: this master tells its detector that it is the one.
static void appoint(void* detector, void* master) {
  char* info = static_cast<char*>(room());  // Option<MasterInfo>, zero being SOME
  symbol<void (*)(void*, void*)>("_ZN5mesos10MasterInfoC1ERKS0_")(info + 8, static_cast<char*>(master) + MASTER_INFO_OFFSET);
  symbol<void (*)(void*, void*)>("_ZN5mesos6master8detector24StandaloneMasterDetector7appointERK6OptionINS_10MasterInfoEE")(
      detector, info);
}

int run_master(int argc, char** argv) {
  void* flags = room();
  symbol<void (*)(void*)>("_ZN5mesos8internal6master5FlagsC1Ev")(flags);
  load_daemon_flags(flags, 4, argc, argv, false);
  start_logging(argc, argv);
  initialize_libprocess("master", "mesos-master-readwrite", "mesos-master-readonly");

  OptionalString zk = contents_or_value(flag("zk")), module = flag("master_detector");
  OptionalString realm{string("mesos-master-readonly")};
  Duration session_timeout = duration(flag_or("zk_session_timeout", "10secs"));
  void* allocator = make_allocator();
  void* registrar = make_registrar(flags, make_storage(zk, session_timeout), &realm);
  void* contender = make_contender(&zk, session_timeout);
  void* detector = make_detector(zk, module, session_timeout);
  Option<void*> authorizer = make_authorizer("authorizers");
  void* files = make_files(&realm, &authorizer);
  Option<std::shared_ptr<void>> limiter = make_removal_limiter();

  void* master = room(1 << 18);
  using Construct = void (*)(void*, void*, void*, void*, void*, void*, Option<void*>*, void*, void*);
  symbol<Construct>(
      "_ZN5mesos8internal6master6MasterC1EPNS_9allocator9AllocatorEPNS1_9RegistrarEPNS0_5FilesEPNS_6master9contender"
      "15MasterContenderEPNSA_8detector14MasterDetectorERK6OptionIPNS_10AuthorizerEERKSH_ISt10shared_ptrIN7process"
      "11RateLimiterEEERKNS1_5FlagsE")(master, allocator, registrar, files, contender, detector, &authorizer, &limiter, flags);
  if (!zk.some() && !module.some()) appoint(detector, master);
  spawn(master, false);
  for (;;) pause();
}
