// Whether the window is as narrow as a phone.
const query = matchMedia('(max-width: 44rem)');

class Media {
  isNarrow = $state(query.matches);
  constructor() {
    query.addEventListener('change', () => (this.isNarrow = query.matches));
  }
}

export const media = new Media();
