// The addresses of this page; loaded with the first file on screen.
import { assets } from '../api/files';
import { Addresses, type FileRecord } from './addresses.svelte';
import { addressOf, millis } from './rows';

async function fetchRecords(roomId: string, assetIds: readonly string[]): Promise<FileRecord[]> {
  const response = await assets.batchGetAssets({ roomId, assetIds: [...assetIds] });
  return response.assets.map(({ id, size, assetUrl, thumbnailAssetUrl }) => {
    const url = addressOf(assetUrl?.url);
    return { id, size: Number(size), url, preview: addressOf(thumbnailAssetUrl?.url) || url, expiresAt: millis(assetUrl?.expiresAt) };
  });
}

export const addresses = new Addresses(fetchRecords);
