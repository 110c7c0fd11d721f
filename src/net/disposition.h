/* Disposition: the name under which a browser saves a file (RFC 6266, RFC 8187). Pure. */
#ifndef NET_DISPOSITION_H
#define NET_DISPOSITION_H

#include "base/buf.h"

/* attachment; filename="r_port.csv"; filename*=UTF-8''r%C3%A9port.csv
 * In the plain form everything that a quoted string or an old client may misread is '_'. */
void disposition_write(const char *name, Buf *to);

#endif
