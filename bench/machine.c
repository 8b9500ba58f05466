/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "ticks.h"

static void describe_processor(char *text, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];

    snprintf(text, size, "unknown processor");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');

        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(text, size, "%s", colon + 2);
        break;
    }
    fclose(file);
}

static double measure_pause(void)
{
    enum { PAUSES = 1000, TRIES = 20 };
    double shortest_ns = 0;

    for (int try = 0; try < TRIES; try++) { /* the shortest is the one that nobody interrupted */
        uint64_t begin_ns = clock_ns();
        double pause_ns;

        for (int i = 0; i < PAUSES; i++)
            cpu_pause();
        pause_ns = (double)(clock_ns() - begin_ns) / PAUSES;
        if (try == 0 || pause_ns < shortest_ns)
            shortest_ns = pause_ns;
    }
    return shortest_ns;
}

void machine_describe(struct machine *machine, const struct settings *settings)
{
    struct utsname system;
    size_t used = 0;

    describe_processor(machine->processor, sizeof machine->processor);
    uname(&system);
    snprintf(machine->kernel, sizeof machine->kernel, "%.60s %.60s %.30s", system.sysname, system.release,
             system.machine);
    for (uint32_t i = 0; i < settings->cores && used < sizeof machine->cores; i++)
        used += (size_t)snprintf(machine->cores + used, sizeof machine->cores - used, i == 0 ? "%u" : ",%u",
                                 settings->core[i]);
#ifdef __clang__
    machine->compiler = "clang " __clang_version__;
#else
    machine->compiler = "gcc " __VERSION__;
#endif
    machine->pause_ns = measure_pause();
}
