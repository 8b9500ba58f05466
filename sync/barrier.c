/* SPDX-License-Identifier: BSD-2-Clause */
#include "barrier.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atomic.h"

bool noria_barrier_register(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

void noria_barrier_heavy(void)
{
    noria_fence_seq_cst();
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) != 0)
        noria_fence_seq_cst();
}
