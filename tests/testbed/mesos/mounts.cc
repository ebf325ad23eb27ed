// MESOSD_CPU_HIERARCHY=DIRECTORY lets Mesos see a hierarchy of cgroups version 1 with the cpu controller there, which is not.
//
// The Docker containerizer refuses to start without one, and does no more with it than to look for the containers' groups and to
// say that it finds none. So under version 2 of cgroups this is all that Docker needs: it makes its own groups anyway.
#include <dlfcn.h>
#include <mntent.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

// Shadows that of the C library, by which libmesos.so reads the table of mounts.
extern "C" FILE* setmntent(const char* path, const char* mode) {
  using Open = FILE* (*)(const char*, const char*);
  static const Open open = reinterpret_cast<Open>(dlsym(RTLD_NEXT, "setmntent"));
  const char* directory = getenv("MESOSD_CPU_HIERARCHY");
  FILE* table = open(path, mode);
  if (!directory || !table || strcmp(mode, "r") != 0) return table;

  FILE* longer = tmpfile();
  if (!longer) return table;
  char buffer[1 << 12];
  for (size_t length; (length = fread(buffer, 1, sizeof buffer, table)) > 0;) fwrite(buffer, 1, length, longer);
  fclose(table);
  fprintf(longer, "cgroup %s cgroup rw,cpu 0 0\n", directory);
  rewind(longer);
  return longer;
}
