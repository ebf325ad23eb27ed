// mesos-containerizer: the agent runs `mesos-containerizer launch` for every container. The class that does it is in libmesos.so.
#include <cstdio>
#include <cstring>
#include <string>

#include "libmesos.h"

#define LAUNCH_CLASS "_ZN5mesos8internal5slave24MesosContainerizerLaunch"

// Distance from an object to a virtual base, as its vtable tells (`slot` entries before the vtable's address point).
static long virtual_base_offset(const void* object, int slot) {
  const char* vtable = *static_cast<const char* const*>(object);
  return *reinterpret_cast<const long*>(vtable - 8 * slot);
}

int main(int argc, char** argv) {
  if (argc < 2 || strcmp(argv[1], "launch") != 0) {
    fprintf(stderr, "unsupported subcommand '%s'\n", argc > 1 ? argv[1] : "");
    return 1;
  }
  open_libmesos();

  auto construct_flags = symbol<void (*)(void*)>(LAUNCH_CLASS "5FlagsC1Ev");
  static char probe[1 << 14], launch[1 << 15];
  construct_flags(probe);
  long base_in_flags = virtual_base_offset(probe, 3);

  // The MesosContainerizerLaunch object is only its Flags and a vptr that nothing here uses. getFlags() gives the address of the
  // FlagsBase within it, from which the Flags' own address follows.
  auto get_flags = symbol<char* (*)(void*)>(LAUNCH_CLASS "8getFlagsEv");
  char* flags_base = get_flags(launch);
  construct_flags(flags_base - base_in_flags);

  load_flags(flags_base, "MESOS_CONTAINERIZER_", argc - 1, argv + 1, false);
  return symbol<int (*)(void*)>(LAUNCH_CLASS "7executeEv")(launch);
}
