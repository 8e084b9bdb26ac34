// Images that everybody may see: avatars, the server's logo and its banner.

/** The path of an image's URL, because the page may have been opened at another address of the server; `''` for none. */
export const imagePath = (url: string | undefined): string => (url ? new URL(url, location.href).pathname : '');
