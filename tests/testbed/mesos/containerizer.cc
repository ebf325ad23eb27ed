// mesos-containerizer: what the agent runs inside of containers, for each of them.
//   launch             becomes the container's first process; the class that does it is in libmesos.so
//   network-cni-setup  writes a container's /etc/hosts and the like; likewise
//   mount              --operation=make-rslave --path=DIRECTORY; a system call, done here
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "libmesos.h"

using std::string;

// Distance from an object to a virtual base, as its vtable tells (`slot` entries before the vtable's address point).
static long virtual_base_offset(const void* object, int slot) {
  const char* vtable = *static_cast<const char* const*>(object);
  return *reinterpret_cast<const long*>(vtable - 8 * slot);
}

// Runs a subcommand of the library. `class_symbol` is its class, mangled.
static int run(const string& class_symbol, int argc, char** argv) {
  open_libmesos();
  auto construct_flags = symbol<void (*)(void*)>(class_symbol + "5FlagsC1Ev");
  static char probe[1 << 14], object[1 << 15];
  construct_flags(probe);
  long base_in_flags = virtual_base_offset(probe, 3);

  // The object is only its Flags and a vptr that nothing here uses. getFlags() gives the address of the FlagsBase within it, from
  // which the Flags' own address follows.
  auto get_flags = symbol<char* (*)(void*)>(class_symbol + "8getFlagsEv");
  char* flags_base = get_flags(object);
  construct_flags(flags_base - base_in_flags);

  load_flags(flags_base, "MESOS_CONTAINERIZER_", argc - 1, argv + 1, false);
  return symbol<int (*)(void*)>(class_symbol + "7executeEv")(object);
}

// ---- launch -----------------------------------------------------------------------------------------------------------------------

// The end of the JSON object that begins at `begin`, or npos. Braces within strings would mislead it: callers check the length.
static size_t end_of_object(const string& json, size_t begin) {
  int depth = 0;
  for (size_t i = begin; i < json.size(); i++) {
    if (json[i] == '{') depth++;
    if (json[i] == '}' && --depth == 0) return i;
  }
  return string::npos;
}

// Removes the innermost object around position `at`, a member of an array, with one comma, if it is a mount: those are no longer
// than a few hundred characters, and have a target.
static bool remove_mount_around(string* json, size_t at) {
  const size_t longest = 2000;
  size_t begin = json->rfind('{', at);
  if (begin == string::npos) return false;
  size_t end = end_of_object(*json, begin);
  if (end == string::npos || end < at || end - begin > longest) return false;
  if (json->substr(begin, end - begin).find("\"target\"") == string::npos) return false;
  bool comma_after = end + 1 < json->size() && (*json)[end + 1] == ',';
  if (comma_after) {
    end++;
  } else if (begin > 0 && (*json)[begin - 1] == ',') {
    begin--;
  }
  json->erase(begin, end - begin + 1);
  return true;
}

// The path is the end of a longer one, in the root filesystem of the container.
static void remove_mounts_of(string* json, const string& path) {
  for (size_t at = 0; (at = json->find(path + "\"", at)) != string::npos;) {
    if (remove_mount_around(json, at)) {
      at = 0;
    } else {
      at++;
    }
  }
}

// The filesystem isolator hides parts of /proc from every container in an image, and does not care whether the kernel has them:
// some have no /proc/sysrq-trigger. Binding what is not there would fail the container, so such mounts are left out.
static string without_absent_mounts(string launch_info) {
  for (string path : {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}) {
    if (access(path.c_str(), F_OK) == 0) continue;
    string escaped;  // as some JSON writers do
    for (char c : path) escaped += c == '/' ? string("\\/") : string(1, c);
    remove_mounts_of(&launch_info, path);
    remove_mounts_of(&launch_info, escaped);
  }
  return launch_info;
}

static int launch(int argc, char** argv) {
  const char* variable = "MESOS_CONTAINERIZER_LAUNCH_INFO";
  if (const char* info = getenv(variable)) setenv(variable, without_absent_mounts(info).c_str(), 1);
  for (int i = 2; i < argc; i++) {
    if (strncmp(argv[i], "--launch_info=", 14) == 0) argv[i] = strdup(without_absent_mounts(argv[i]).c_str());
  }
  return run("_ZN5mesos8internal5slave24MesosContainerizerLaunch", argc, argv);
}

// ---- mount ------------------------------------------------------------------------------------------------------------------------

static string option(int argc, char** argv, const string& name) {
  string begin = "--" + name + "=";
  for (int i = 2; i < argc; i++) {
    if (strncmp(argv[i], begin.c_str(), begin.size()) == 0) return argv[i] + begin.size();
  }
  return "";
}

static int mount_subcommand(int argc, char** argv) {
  string operation = option(argc, argv, "operation"), path = option(argc, argv, "path");
  if (operation != "make-rslave" || path.empty()) {
    fprintf(stderr, "mount: unsupported operation '%s' on '%s'\n", operation.c_str(), path.c_str());
    return 1;
  }
  if (mount(nullptr, path.c_str(), nullptr, MS_SLAVE | MS_REC, nullptr) == 0) return 0;
  fprintf(stderr, "mount: cannot make '%s' a slave: %s\n", path.c_str(), strerror(errno));
  return 1;
}

int main(int argc, char** argv) {
  string subcommand = argc > 1 ? argv[1] : "";
  if (subcommand == "launch") return launch(argc, argv);
  if (subcommand == "network-cni-setup") return run("_ZN5mesos8internal5slave23NetworkCniIsolatorSetup", argc, argv);
  if (subcommand == "mount") return mount_subcommand(argc, argv);
  fprintf(stderr, "unsupported subcommand '%s'\n", subcommand.c_str());
  return 1;
}
